"""The text of a card, with missing entries named."""

import pathlib
import re

import pytest
from helpers import batch_normalised, dense, maml

import maml_keras as mk
from maml_keras import last_layer

pytestmark = [pytest.mark.journey, pytest.mark.usefixtures("tasks_in_a_loop")]

FOLDER = pathlib.Path(__file__).parents[2] / "saved_models"

NAMES = ["sinusoid", "omniglot"]


def flat(text):
    return " ".join(text.split())


def test_the_card_shows_accuracies_in_percent():
    shown = str(mk.model_card(FOLDER / "omniglot", latency=False))
    assert "accuracy 93.92% ± 0.44% after 3 steps, 95% CI over 600 new tasks" in shown
    rows = [line.split() for line in shown.splitlines() if re.match(r" +\d  ", line)]
    assert rows[0] == ["0", "20.73%", "±0.72%", "20.00%", "0"]
    assert len(rows) == 4


def test_the_card_shows_figures_on_other_sources_and_none_that_nobody_measured():
    card = mk.model_card(FOLDER / "sinusoid", latency=False)
    assert "On other sources" not in str(card)
    halves = {"half_width_95": [0.01, 0.02], "queries_per_task": 75, "queries": "alone"}
    found = {"metric": "accuracy", "tasks": 600, "steps": [0, 3], "mean": [0.2, 0.7]}
    card.card["transfer"] = {"digits": {**found, **halves}, "tables": {"tasks": 3}}
    shown = flat(str(card))
    assert (
        "On other sources digits accuracy 70.00% ± 2.00% after 3 steps, 95% CI over "
        "600 new tasks, 20.00% before; queries a task: 75, alone tables not recorded"
    ) in shown
    assert "<dt>digits</dt><dd>accuracy 70.00% ± 2.00% after 3 steps" in card.html()


@pytest.mark.parametrize("name", NAMES)
def test_the_card_has_the_sizes_of_the_files(name):
    card = mk.model_card(FOLDER / name, latency=False)
    assert (
        card.files["learner.keras"] == (FOLDER / name / "learner.keras").stat().st_size
    )
    assert sum(card.files.values()) == sum(
        f.stat().st_size for f in (FOLDER / name).rglob("*") if f.is_file()
    )


def test_missing_entries_are_shown_as_not_recorded(tmp_path):
    inner = mk.InnerLoop("mse", mk.SGD(0.1), adapt=last_layer())
    path = mk.MAML(dense(), inner).export(tmp_path / "plain")
    card = mk.model_card(path, latency=False)
    shown = flat(str(card))
    assert str(card).startswith("plain\naccuracy or loss: not recorded")
    for label in ("protocol", "published", "command", "seed", "meta-steps"):
        assert f"{label} not recorded" in shown
    # Only the head adapts: a kernel of 4 x 2 and a bias of 2.
    assert card.adapting == 10
    assert "10 (LastLayer())" in shown
    assert "<svg" not in card.html()
    assert 'class="nothing">not recorded' in card.html()


def test_statistics_of_a_task_do_not_count_as_parameters(tmp_path):
    path = maml(batch_normalised(), batch_norm="support").export(tmp_path / "e")
    card = mk.model_card(path, latency=False)
    assert card.adapting == card.card["parameters"]

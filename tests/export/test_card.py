"""The card shows card.json and the measured latency, and names missing entries."""

import json
import pathlib
import re
import shutil
import xml.etree.ElementTree

import pytest
from helpers import batch_normalised, dense, maml
from typer.testing import CliRunner

import maml_keras as mk
from maml_keras import last_layer
from maml_keras.export.card_curve import BOTTOM, HEIGHT, LEFT, TOP, WIDTH, curve_svg
from maml_keras.export.latency import measure, timed
from maml_keras_cli import app

pytestmark = [pytest.mark.journey, pytest.mark.usefixtures("tasks_in_a_loop")]

FOLDER = pathlib.Path(__file__).parents[2] / "saved_models"
NAMES = ["sinusoid", "omniglot"]


def content(name):
    return json.loads((FOLDER / name / "card.json").read_text(encoding="utf-8"))


def flat(text):
    return " ".join(text.split())


@pytest.mark.parametrize("name", NAMES)
def test_committed_exports_show_everything_in_their_card(name):
    card, recorded = mk.model_card(FOLDER / name, latency=False), content(name)
    shown = flat(str(card))
    for key in ("title", "protocol", "published", "command", "batch_norm", "model"):
        assert flat(recorded[key]) in shown
    for value in recorded["versions"].values():
        assert value in shown
    assert f"{recorded['parameters']:,} (AllWeights())" in shown
    assert f"{recorded['iterations']:,}" in shown
    assert "not recorded" not in shown
    assert "Latency adapt and predict not measured" in shown


def test_the_card_shows_accuracies_in_percent():
    shown = str(mk.model_card(FOLDER / "omniglot", latency=False))
    assert "accuracy 93.58% ± 0.50% after 3 steps, 95% CI over 600 new tasks" in shown
    rows = [line.split() for line in shown.splitlines() if re.match(r" +\d  ", line)]
    assert rows[0] == ["0", "20.03%", "±0.60%", "18.67%", "0"]
    assert len(rows) == 4


@pytest.mark.parametrize("name", NAMES)
def test_the_card_has_the_sizes_of_the_files(name):
    card = mk.model_card(FOLDER / name, latency=False)
    assert (
        card.files["learner.keras"] == (FOLDER / name / "learner.keras").stat().st_size
    )
    assert sum(card.files.values()) == sum(
        f.stat().st_size for f in (FOLDER / name).rglob("*") if f.is_file()
    )


@pytest.mark.parametrize("name", NAMES)
def test_the_page_stands_alone(name):
    page = mk.model_card(FOLDER / name, latency=False).html()
    assert page.startswith("<!doctype html>")
    # The page loads nothing from elsewhere.
    assert not re.search(r"<(script|link|img|iframe)|url\(|@import|src=|href=", page)
    assert "prefers-color-scheme: dark" in page
    assert 'name="viewport"' in page
    picture = re.search(r"<svg.*?</svg>", page, flags=re.DOTALL)[0]
    drawn = xml.etree.ElementTree.fromstring(picture)
    assert len(list(drawn.iter("circle"))) == len(content(name)["evaluation"]["steps"])


def test_markup_in_a_card_is_escaped(tmp_path):
    path = maml(dense()).export(tmp_path / "e", card={"title": "<b>a & b</b>"})
    page = mk.model_card(path, latency=False).html()
    assert "<h1>&lt;b&gt;a &amp; b&lt;/b&gt;</h1>" in page


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


def test_the_curve_of_an_accuracy_is_drawn_at_the_right_places():
    drawn = xml.etree.ElementTree.fromstring(
        curve_svg([0, 1, 2], [0.0, 0.5, 1.0], [0.0, 0.1, 0.0], metric="accuracy")
    )
    places = [(float(c.get("cx")), float(c.get("cy"))) for c in drawn.iter("circle")]
    bottom, middle = HEIGHT - BOTTOM, (TOP + HEIGHT - BOTTOM) / 2
    across = (LEFT, (LEFT + WIDTH - 14) / 2, WIDTH - 14)
    assert places == [(across[0], bottom), (across[1], middle), (across[2], TOP)]
    # The interval of the middle step reaches a tenth of the axis up and down.
    bar = [e for e in drawn.iter("line") if e.get("class") == "bar"][1]
    tenth = (HEIGHT - TOP - BOTTOM) / 10
    assert float(bar.get("y1")) == pytest.approx(middle + tenth, abs=0.1)
    assert float(bar.get("y2")) == pytest.approx(middle - tenth, abs=0.1)


def test_curve_of_a_loss_that_falls_far_is_logarithmic():
    picture = curve_svg([0, 1], [10.0, 0.1], [0.0, 0.0], metric="loss")
    assert "logarithmic" in picture
    drawn = xml.etree.ElementTree.fromstring(picture)
    ends = [float(c.get("cy")) for c in drawn.iter("circle")]
    assert ends == [TOP, HEIGHT - BOTTOM]
    assert "logarithmic" not in curve_svg([0, 1], [2.0, 1.0], [0, 0], metric="loss")


@pytest.mark.parametrize(
    "means",
    [[1.0, None, 0.5], [None, 2.0, 1.0], [0.0, 0.0, 0.0], [1e-15, 1e-13, 1e-9]],
)
def test_a_curve_with_gaps_or_without_a_span_is_drawn(means):
    drawn = xml.etree.ElementTree.fromstring(
        curve_svg([0, 1, 2], means, [None, 0.0, 0.0], metric="loss")
    )
    kept = [m for m in means if m is not None]
    assert len(list(drawn.iter("circle"))) == len(kept)
    # A gap splits the line in two.
    lines = 2 if means[1] is None else 1
    assert len(list(drawn.iter("polyline"))) == lines
    assert "nan" not in "".join(c.get("cy") for c in drawn.iter("circle"))


def test_without_figures_the_curve_is_empty():
    assert curve_svg([0, 1], [None, None], [None, None], metric="loss") == ""


def test_timings_leave_the_first_call_out():
    calls = []
    found = timed(lambda: calls.append(1))
    assert found["calls"] == len(calls) - 1
    assert found["median_ms"] <= found["p95_ms"]


def test_latency_is_measured_without_this_library(capsys, monkeypatch):
    monkeypatch.setattr("maml_keras.backend.progress.SECONDS", 0.0)
    found = measure(FOLDER / "sinusoid", steps=3, queries=10, verbose=1)
    assert "4/4" in capsys.readouterr().out  # Loading and three timings.
    assert [t["what"] for t in found["timings"]] == [
        "adapt, 3 steps on 10 examples",
        "predict 1 example",
        "predict 10 examples",
    ]
    for timing in found["timings"]:
        assert 0 < timing["median_ms"] <= timing["p95_ms"]
        assert timing["calls"] >= 20
    assert "core" in found["machine"]
    card = mk.model_card(FOLDER / "sinusoid", latency=False)
    timed_card = type(card)(**{**vars(card), "latency": found})
    assert "adapt, 3 steps on 10 examples" in str(timed_card)
    assert "95th percentile of" in timed_card.html()


def test_timing_an_export_that_does_not_run_is_refused(tmp_path):
    with pytest.raises(ValueError, match="to be timed.*--no-latency"):
        measure(tmp_path, steps=1)


def run(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def test_the_program_prints_the_card_and_writes_the_page(tmp_path):
    run_folder = tmp_path / "run"
    shutil.copytree(FOLDER / "sinusoid", run_folder / "export")
    page = tmp_path / "pages/card.html"
    ended = run("card", run_folder, "--no-latency", "--html", page)
    assert ended.exit_code == 0, ended.output
    assert ended.output.startswith("10-shot regression of random sinusoids\n")
    assert f"page: {page}" in ended.output
    assert "<svg" in page.read_text(encoding="utf-8")
    ended = run("card", run_folder, "--no-latency", "--html", page)
    assert ended.exit_code == 1
    assert "must be a new path" in ended.output


def test_the_program_refuses_a_folder_without_an_export(tmp_path):
    ended = run("card", tmp_path)
    assert ended.exit_code == 1
    assert "maml-keras export RUN" in ended.output

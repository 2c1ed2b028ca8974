"""The card shows card.json and the measured latency, and names missing entries."""

import json
import pathlib
import shutil

import pytest
from typer.testing import CliRunner

import maml_keras as mk
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

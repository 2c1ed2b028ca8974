"""The command line, as a user meets it."""

import dataclasses
import json

import keras
import numpy as np
import pytest
from typer.testing import CliRunner

from maml_keras import experiments
from maml_keras.cli import app

SMALL = dataclasses.replace(
    experiments.get("sinusoid"),
    iterations=40,
    epoch=20,
    evaluation_steps=2,
)


def run(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(experiments.PRESETS, "sinusoid", SMALL)
        result = run("train", "sinusoid", "--out", folder, "--tasks", 20, "--quiet")
        assert result.exit_code == 0, result.output
        yield folder, result.output


@pytest.fixture
def task_file(tmp_path):
    x = np.linspace(-3, 3, 10)[:, None]
    y = 3 * np.sin(x)
    np.savez(tmp_path / "task.npz", x=x, y=y, query_x=x + 0.1, query_y=y)
    return tmp_path / "task.npz"


@pytest.mark.parametrize("command", ["train", "evaluate", "adapt", "export"])
def test_help_explains_each_command(command):
    result = run(command, "--help")
    assert result.exit_code == 0
    assert len(result.output.splitlines()) > 10


def test_train_prints_the_curve_and_writes_run_and_export(trained):
    folder, output = trained
    assert "95% CI over 20 tasks" in output
    assert "batch norm: transductive" in output
    assert (folder / "maml.keras").exists()
    assert (folder / "export/saved_model.pb").exists()
    result = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))
    assert result["steps"] == [0, 1, 2]


def test_evaluate_prints_a_line_for_each_step(trained):
    result = run("evaluate", trained[0], "--steps", 4, "--tasks", 20, "--quiet")
    assert result.exit_code == 0, result.output
    rows = [
        line for line in result.output.splitlines() if "±" in line and "(" not in line
    ]
    assert [int(row.split()[0]) for row in rows] == [0, 1, 2, 3, 4]


def test_export_writes_a_card_with_fresh_figures(trained, tmp_path):
    result = run(
        "export", trained[0], "--out", tmp_path / "e", "--tasks", 20, "--quiet"
    )
    assert result.exit_code == 0, result.output
    card = json.loads((tmp_path / "e/card.json").read_text(encoding="utf-8"))
    assert card["evaluation"]["tasks"] == 20
    assert card["title"] == SMALL.title


def test_adapt_prints_before_and_after_and_writes_the_network(
    trained, task_file, tmp_path
):
    out = tmp_path / "adapted.keras"
    result = run(
        "adapt", trained[0] / "export", "--data", task_file, "--steps", 5, "--out", out
    )
    assert result.exit_code == 0, result.output
    before, after = map(float, result.output.splitlines()[1].split()[1:3])
    assert after < before
    # The written network is the one whose error was printed.
    model = keras.saving.load_model(out)
    with np.load(task_file) as task:
        error = np.mean(np.square(model.predict(task["x"], verbose=0) - task["y"]))
    assert error == pytest.approx(after, rel=1e-3)  # Printed to four digits.


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "sinusiod"], "Did you mean 'sinusoid'"),
        (["train", "sinusoid", "--iterations", "30"], "multiple of"),
        (["evaluate", "nowhere"], "maml-keras train"),
        (["export", "nowhere"], "maml-keras train"),
        (["adapt", "nowhere", "--data", "none.npz"], "does not exist"),
        (["train", "omniglot_5w1s", "--data-dir", "nowhere"], "--download"),
    ],
)
def test_what_a_user_can_mend_is_one_line_without_traceback(
    arguments, message, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(experiments.PRESETS, "sinusoid", SMALL)
    result = run(*arguments)
    assert result.exit_code == 1
    lines = result.output.strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    assert message in lines[0]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": np.zeros([3, 1])}, "arrays x and y"),
        ({"x": np.zeros([3, 2]), "y": np.zeros([3, 1])}, "must have shape"),
        ({"x": np.zeros([3, 1]), "y": np.zeros([2, 1])}, "as many examples"),
        ({"x": np.full([3, 1], np.nan), "y": np.zeros([3, 1])}, "finite"),
        ({"x": np.zeros([0, 1]), "y": np.zeros([0, 1])}, "an example"),
    ],
)
def test_adapt_refuses_a_file_that_does_not_fit(trained, tmp_path, arrays, message):
    np.savez(tmp_path / "bad.npz", **arrays)
    result = run("adapt", trained[0] / "export", "--data", tmp_path / "bad.npz")
    assert result.exit_code == 1
    assert message in result.output


def test_adapt_refuses_a_file_that_is_no_npz(trained, tmp_path):
    (tmp_path / "bad.npz").write_text("text", encoding="utf-8")
    result = run("adapt", trained[0] / "export", "--data", tmp_path / "bad.npz")
    assert result.exit_code == 1
    assert "numpy cannot read" in result.output


def test_wrong_usage_exits_with_2():
    assert run("train").exit_code == 2
    assert run("evaluate", "x", "--steps", "-1").exit_code == 2

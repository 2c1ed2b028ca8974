"""Settings files repeat a run, runs resume, and no folder is overwritten."""

import dataclasses
import errno
import json
import os
import shlex
import signal
import sys

import numpy as np
import pytest
import tensorflow as tf
from typer.testing import CliRunner

from maml_keras import MAML
from maml_keras.experiments import fixed_tasks, registry, run_folder, runs
from maml_keras.monitoring.watch import Watch
from maml_keras_cli import app

pytestmark = [
    pytest.mark.journey,
    pytest.mark.usefixtures("tasks_in_a_loop", "few_validation_tasks", "no_looks"),
]

SMALL = dataclasses.replace(
    registry.get("sinusoid"), iterations=20, epoch=10, evaluation_steps=1
)


@pytest.fixture
def exports():
    """Lets `train` write its export, which takes a third of the time of such a run."""


@pytest.fixture(autouse=True)
def small_preset(request, monkeypatch, tmp_path):
    if "exports" not in request.fixturenames:
        monkeypatch.setattr(MAML, "export", lambda self, path, **_: path)
    # Pictures take longer than these runs; test_watch.py tests them.
    monkeypatch.setattr("maml_keras.monitoring.figures.can_draw", lambda: False)
    monkeypatch.setitem(registry.PRESETS, "sinusoid", SMALL)
    monkeypatch.chdir(tmp_path)


def run(*arguments):
    return CliRunner().invoke(app, [*map(str, arguments), "--tasks", "4", "--quiet"])


def weights(folder):
    return [np.asarray(v) for v in runs.load(folder)[0].variables]


def words(result):
    """The output without the frame and the line breaks of a terminal."""
    return " ".join(result.output.replace("│", " ").split())


def test_the_file_of_a_run_repeats_it_bit_for_bit():
    first = run("train", "sinusoid", "--algorithm", "fomaml", "--seed", 7)
    assert first.exit_code == 0, first.output
    again = run("train", "--config", "runs/sinusoid/config.toml", "--out", "again")
    assert again.exit_code == 0, again.output
    for a, b in zip(weights("runs/sinusoid"), weights("again")):
        np.testing.assert_array_equal(a, b)
    settings = [run_folder.read_config(path) for path in ("runs/sinusoid", "again")]
    for each in settings:
        assert each.pop("record")["versions"]["keras"]
        assert each["algorithm"] == "fomaml"
        assert each["tasks"] == 4
    assert settings[0] == settings[1]


def test_an_option_overrides_the_file(tmp_path):
    (tmp_path / "mine.toml").write_text('preset = "sinusoid"\nseed = 7\n')
    result = run("train", "--config", "mine.toml", "--seed", 8, "--iterations", 10)
    assert result.exit_code == 0, result.output
    kept = run_folder.read_config("runs/sinusoid")
    assert (kept["seed"], kept["iterations"]) == (8, 10)


@pytest.mark.slow
def test_the_file_of_a_comparison_repeats_it(tmp_path):
    text = 'preset = "sinusoid"\nalgorithms = ["maml", "random"]\niterations = 10\n'
    (tmp_path / "mine.toml").write_text(text)
    result = run("compare", "--config", "mine.toml")
    assert result.exit_code == 0, result.output
    assert "| random |" in result.output
    file = "runs/sinusoid-compare/config.toml"
    again = run("compare", "--config", file)
    assert again.exit_code == 0, again.output
    first, second = (weights(f"runs/sinusoid-compare{n}/maml") for n in ("", "-2"))
    for a, b in zip(first, second):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_train_repeats_one_algorithm_of_a_comparison():
    assert run("compare", "sinusoid", "--algorithms", "maml_plus_plus").exit_code == 0
    part = "runs/sinusoid-compare/maml_plus_plus"
    again = run("train", "--config", f"{part}/config.toml", "--out", "again")
    assert again.exit_code == 0, again.output
    for a, b in zip(weights(part), weights("again")):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('preset = "sinusoid"\niteration = 10', "Did you mean 'iterations'?"),
        ('preset = "sinusoid"\niterations = 10.5', "integer"),
        ('preset = "sinusoid"\niterations = "many"', "bad.toml: `iterations`"),
        ("preset = 7", "bad.toml: `preset` must be a text in quotes. Received: 7"),
        ('preset = "sinusoid"\nseed = true', "bad.toml: `seed` must be a number"),
        ('preset = "sinusoid"\ndownload = 1', "`download` must be true or false"),
        ('preset = "sinusoid"\n[seed]\na = 1', "bad.toml: `seed` must be a number"),
        ("", "Missing argument"),
        ('preset = "sinusoid"\niterations = 0', "greater than or equal to 1"),
        ('preset = "sinusoid', "cannot be read as TOML"),
        ("seed = 1", "Missing argument"),
        ('preset = "sinusoid"\nresume = true', "unknown key 'resume'"),
    ],
)
def test_a_wrong_settings_file_exits_with_2(text, message, tmp_path):
    (tmp_path / "bad.toml").write_text(text)
    result = run("train", "--config", "bad.toml")
    assert result.exit_code == 2, result.output
    assert message in words(result)
    assert not (tmp_path / "runs").exists()


def test_a_missing_file_is_named():
    result = run("train", "--config", "none.toml")
    assert result.exit_code == 2
    assert "none.toml cannot be read: No such file or directory" in words(result)
    assert "TOML" not in words(result)


@pytest.mark.slow
def test_runs_without_out_get_numbered_folders(tmp_path):
    for _ in range(3):
        assert run("train", "sinusoid", "--iterations", 10).exit_code == 0
    assert sorted(p.name for p in (tmp_path / "runs").iterdir()) == [
        "sinusoid",
        "sinusoid-2",
        "sinusoid-3",
    ]


def test_a_run_that_never_began_leaves_no_folder(tmp_path):
    result = run("train", "sinusoid", "--algorithm", "mammal")
    assert result.exit_code == 1
    assert "Did you mean 'maml'" in result.output
    assert not (tmp_path / "runs/sinusoid").exists()


def test_existing_files_are_not_overwritten(exports, tmp_path):
    assert run("train", "sinusoid", "--out", "mine").exit_code == 0
    kept = {p: p.stat().st_mtime_ns for p in (tmp_path / "mine").rglob("*")}
    refused = [
        run("train", "sinusoid", "--out", "mine"),
        run("compare", "sinusoid", "--out", "mine"),
        run("export", "mine", "--out", "mine/export"),
    ]
    for result in refused:
        assert result.exit_code == 1
        assert "must be a new path. Received: mine" in result.output
    assert run("evaluate", "mine").exit_code == 0
    assert run("export", "mine").exit_code == 0
    written = json.loads((tmp_path / "mine/evaluation-2.json").read_text("utf-8"))
    assert (written["on"], written["seed"]) == ("test", fixed_tasks.TEST_SEED)
    assert run("evaluate", "mine", "--on", "validation").exit_code == 0
    written = json.loads((tmp_path / "mine/evaluation-3.json").read_text("utf-8"))
    assert (written["on"], written["seed"]) == (
        "validation",
        fixed_tasks.VALIDATION_SEED,
    )
    assert (tmp_path / "mine/export-2/saved_model.pb").exists()
    for path, written in kept.items():
        assert path.is_dir() or path.stat().st_mtime_ns == written, path


def test_the_command_shown_after_an_interruption_resumes(tmp_path, monkeypatch):
    assert run("train", "sinusoid", "--out", "whole").exit_code == 0

    def interrupt(self, epoch, logs=None):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Watch, "on_epoch_end", interrupt)
        cut = run("train", "sinusoid")
    assert cut.exit_code == 130
    program, *arguments = shlex.split(cut.output.split("`")[1])
    assert program == "maml-keras"
    resumed = run(*arguments)
    assert resumed.exit_code == 0, resumed.output
    for a, b in zip(weights("whole"), weights("runs/sinusoid")):
        np.testing.assert_array_equal(a, b)
    # `--resume` trains nothing if the run has ended.
    kept = (tmp_path / "runs/sinusoid" / runs.MODEL).stat().st_mtime_ns
    assert run("train", "sinusoid", "--resume").exit_code == 0
    assert (tmp_path / "runs/sinusoid" / runs.MODEL).stat().st_mtime_ns == kept
    for a, b in zip(weights("whole"), weights("runs/sinusoid")):
        np.testing.assert_array_equal(a, b)


def test_sigterm_says_how_to_resume_as_ctrl_c_does(tmp_path, monkeypatch):
    before = signal.getsignal(signal.SIGTERM)

    def terminate(self, epoch, logs=None):
        os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(Watch, "on_epoch_end", terminate)
        cut = run("train", "sinusoid")
    assert cut.exit_code == 143
    assert cut.output.startswith("terminated. Continue with `maml-keras train --config")
    assert signal.getsignal(signal.SIGTERM) is before
    resumed = run(*shlex.split(cut.output.split("`")[1])[1:])
    assert resumed.exit_code == 0, resumed.output


@pytest.mark.parametrize("raised", [tf.errors.ResourceExhaustedError, OSError])
def test_a_full_disk_is_one_line_that_names_the_file(raised, monkeypatch):
    def fill(self, epoch, logs=None):
        if raised is OSError:
            raise OSError(errno.ENOSPC, "No space left on device", "runs/x/logs/events")
        message = "{{function_node f}} runs/x/logs/events; No space left\n\tFailed"
        raise tf.errors.ResourceExhaustedError(None, None, message)

    monkeypatch.setattr(Watch, "on_epoch_end", fill)
    ended = run("train", "sinusoid")
    assert ended.exit_code == 1
    (line,) = ended.output.splitlines()
    assert line.startswith("error: ")
    assert "runs/x/logs/events" in line
    assert "function_node" not in line


def test_resume_without_a_run_is_refused(tmp_path):
    for command in ("train", "compare"):
        for out in ([], ["--out", "mistyped"]):
            result = run(command, "sinusoid", *out, "--resume")
            assert result.exit_code == 1
            assert "needs a run to continue" in result.output
    assert not any(tmp_path.iterdir())


def test_run_folders_are_ordered_by_number_with_gaps(tmp_path):
    from maml_keras.experiments.run_folder import numbers

    for name in ("sinusoid-2", "sinusoid-10", "sinusoid-3", "sinusoid-compare"):
        (tmp_path / name).mkdir()
    found = [path.name for path in numbers(tmp_path / "sinusoid")]
    assert found == ["sinusoid-2", "sinusoid-3", "sinusoid-10"]


def test_the_typed_command_is_recorded(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["x", "train", "sinusoid", "--out", "a b"])
    assert run("train", "sinusoid", "--out", "a b").exit_code == 0
    command = run_folder.read_config("a b")["record"]["command"]
    assert command == "maml-keras train sinusoid --out 'a b'"


def test_quiet_and_verbose_exclude_each_other():
    result = run("train", "sinusoid", "--verbose")
    assert result.exit_code == 2
    assert "exclude each other" in words(result)


@pytest.mark.slow
@pytest.mark.default_map
def test_verbose_names_the_chosen_task_map():
    arguments = ["train", "sinusoid", "--tasks", "4", "--out", "talking"]
    talking = CliRunner().invoke(app, [*arguments, "--verbose"])
    assert talking.exit_code == 0, talking.output
    assert "task map: auto (vectorized: " in talking.stderr
    arguments[-1] = "plain"
    plain = CliRunner().invoke(app, arguments)
    assert plain.exit_code == 0, plain.output
    assert "task map" not in plain.output


def test_verbose_keeps_the_traceback_of_an_error():
    result = CliRunner().invoke(app, ["evaluate", "nowhere", "--verbose"])
    assert isinstance(result.exception, FileNotFoundError)


@pytest.mark.slow
def test_a_resumed_run_keeps_its_number_of_tasks_and_its_command(exports, tmp_path):
    arguments = ["train", "sinusoid", "--out", str(tmp_path / "run"), "--quiet"]
    assert CliRunner().invoke(app, [*arguments, "--tasks", "4"]).exit_code == 0
    begun = run_folder.read_config(tmp_path / "run")
    assert CliRunner().invoke(app, [*arguments, "--resume"]).exit_code == 0
    # The command is kept, too: the card of the export shows how to repeat the run.
    assert run_folder.read_config(tmp_path / "run") == begun
    written = json.loads((tmp_path / "run/evaluation-2.json").read_text("utf-8"))
    assert written["tasks"] == begun["tasks"] == 4


def test_a_users_empty_folder_is_not_removed(tmp_path):
    (tmp_path / "mine").mkdir()
    failed = run("train", "omniglot_5w1s", "--data-dir", tmp_path, "--out", "mine")
    assert failed.exit_code == 1
    assert (tmp_path / "mine").is_dir()


@pytest.mark.slow
def test_figures_are_shown_if_they_cannot_be_written(tmp_path, monkeypatch):
    assert run("train", "sinusoid", "--out", "mine").exit_code == 0

    def full(*_, **__):
        raise OSError("disk full")

    monkeypatch.setattr(runs, "write_result", full)
    result = run("evaluate", "mine")
    assert result.exit_code == 1
    assert "95% CI over 4 tasks" in result.output
    assert "disk full" in result.output


def test_the_length_of_an_epoch_can_be_given():
    # With the preset's epoch of 10 meta-steps, 15 iterations would be refused.
    result = run("train", "sinusoid", "--epoch", 5, "--iterations", 15)
    assert result.exit_code == 0, result.output
    assert run_folder.read_config("runs/sinusoid")["epoch"] == 5


def test_the_steps_of_a_comparison_can_be_given():
    arguments = ["--algorithms", "random", "--steps", 3, "--iterations", 20]
    result = run("compare", "sinusoid", *arguments, "--out", "c")
    assert result.exit_code == 0, result.output
    # A baseline tries the steps of the test, and five times as many.
    assert "steps 0, 1, 3, 15" in result.output
    assert run_folder.read_config("c")["steps"] == 3

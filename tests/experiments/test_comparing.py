"""Algorithms are trained, resumed and tested on the same tasks."""

import dataclasses
import json

import keras
import numpy as np
import pytest
from typer.testing import CliRunner

from maml_keras.experiments import fixed_tasks, registry, run_folder, runs
from maml_keras.experiments.compared_algorithm import epoch_length
from maml_keras.experiments.comparing import compare
from maml_keras.experiments.preset import Families
from maml_keras_cli import app

pytestmark = [
    pytest.mark.journey,
    pytest.mark.usefixtures("tasks_in_a_loop", "few_validation_tasks", "no_looks"),
]

SMALL = dataclasses.replace(
    registry.get("sinusoid"), iterations=20, epoch=10, evaluation_steps=2
)


@pytest.mark.usefixtures("looks")
def test_all_see_the_same_episodes_and_nothing_is_trained_twice(
    tmp_path, monkeypatch, caplog
):
    names = ["maml", "anil", "random", "pretrained", "oracle"]
    options = {"num_tasks": 20, "verbose": 0, "command": "the command"}
    evaluate, seen = fixed_tasks.evaluate_episodes, []

    def recorded(maml, episodes, **kwargs):
        batches = list(episodes.take(1).as_numpy_iterator())
        seen.append((batches[0][0], batches[0][1]))
        return evaluate(maml, episodes, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(fixed_tasks, "evaluate_episodes", recorded)
        # Without matplotlib a comparison still writes its tables.
        patch.setattr("maml_keras.monitoring.figures.can_draw", lambda: False)
        first = compare(SMALL, names, tmp_path, **options)
    assert "No comparison.png: plots need matplotlib" in caplog.text
    assert not (tmp_path / "comparison.png").exists()
    assert list(first.results) == names
    assert len(seen) == len(names)
    for task, query_y in seen[1:]:
        np.testing.assert_array_equal(query_y, seen[0][1])
        for key in ("support_x", "query_x"):  # The oracle has more columns than x.
            np.testing.assert_array_equal(task[key][..., :1], seen[0][0][key])
    # The oracle does not adapt.
    np.testing.assert_allclose(np.ptp(first.results["oracle"].curve), 0.0, atol=1e-6)
    maml, _, config = runs.load(tmp_path / "anil")
    assert config["algorithm"] == "anil"
    alone = fixed_tasks.evaluate(maml, SMALL, num_tasks=20, verbose=0)
    np.testing.assert_allclose(
        alone.per_episode, first.results["anil"].per_episode, rtol=1e-5
    )
    trained = [tmp_path / name / runs.MODEL for name in names]
    written = [path.stat().st_mtime_ns for path in trained]
    again = compare(SMALL, names, tmp_path, **options)
    assert [path.stat().st_mtime_ns for path in trained] == written
    assert again.iterations == first.iterations
    for name in names:
        np.testing.assert_allclose(
            again.results[name].curve, first.results[name].curve, rtol=1e-5
        )
    np.testing.assert_allclose(
        again.results["anil"].curve, first.results["anil"].curve, rtol=1e-6
    )
    kept = json.loads((tmp_path / "comparison.json").read_text())
    assert kept["command"] == "the command"
    assert kept["anil"]["difference"] == list(again.difference("anil"))
    assert (tmp_path / "comparison.png").stat().st_size > 10_000
    # A learning curve of up to twenty points over training time.
    history = runs.history(tmp_path / "maml")
    assert len(history) == 20
    # `Watch` looks as often as there is time; the first and last epoch are certain.
    assert "adapted_loss" in history[0]
    assert "adapted_loss" in history[-1]
    seconds = [row["seconds"] for row in history]
    assert seconds == sorted(seconds)
    assert kept["maml"]["seconds"] == seconds[-1] > 0
    assert "| anil | 20 |" in (tmp_path / "comparison.md").read_text()


@pytest.mark.parametrize(
    ("preset", "name", "message"),
    [
        ("sinusoid", "proto_maml", "needs class numbers as targets"),
        ("other", "oracle", "'oracle' needs a preset of sinusoids"),
    ],
)
def test_an_algorithm_that_does_not_suit_the_tasks_is_refused_before_training(
    preset, name, message, tmp_path
):
    other = dataclasses.replace(SMALL, families=lambda **_: Families(*"abc"))
    presets = {"sinusoid": SMALL, "other": other}
    with pytest.raises(ValueError, match=message):
        compare(presets[preset], ["maml", name], tmp_path / "c", verbose=0)
    assert not (tmp_path / "c").exists()


@pytest.mark.slow
def test_the_command_line_prints_one_table(tmp_path, monkeypatch):
    monkeypatch.setitem(registry.PRESETS, "sinusoid", SMALL)
    # Pictures take longer than these runs; test_watch.py tests them.
    monkeypatch.setattr("maml_keras.monitoring.figures.can_draw", lambda: False)
    arguments = ["compare", "sinusoid", "--algorithms", "maml, fomaml", "--quiet"]
    arguments += ["--out", str(tmp_path / "c"), "--tasks", "10", "--seconds", "1"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "| fomaml |" in result.output
    # A resumed comparison keeps the number of meta-steps that it chose at first.
    first = run_folder.read_config(tmp_path / "c" / "fomaml")
    (tmp_path / "c" / "fomaml" / runs.MODEL).unlink()
    again = CliRunner().invoke(app, [*arguments, "--resume"])
    assert again.exit_code == 0, again.output
    assert run_folder.read_config(tmp_path / "c" / "fomaml") == first
    assert "10 identical tasks" in result.output
    kept = json.loads((tmp_path / "c" / "comparison.json").read_text())
    for name in ("maml", "fomaml"):
        # test_time_limit.py tests how soon the run ends after this time.
        assert kept[name]["seconds"] >= 1.0
        maml = runs.load(tmp_path / "c" / name)[0]
        assert kept[name]["iterations"] == int(maml.optimizer.iterations) > 20
    # A resumed comparison keeps settings that are not given again, instead of taking
    # the command's defaults.
    short = ["compare", "sinusoid", "--quiet", "--out", str(tmp_path / "c"), "--resume"]
    assert CliRunner().invoke(app, short).exit_code == 0
    assert run_folder.read_config(tmp_path / "c")["algorithms"] == ["maml", "fomaml"]
    assert run_folder.read_config(tmp_path / "c")["tasks"] == 10
    # Other settings would make another comparison.
    other = [*arguments[:-1], "2", "--resume"]
    refused = CliRunner().invoke(app, other)
    assert refused.exit_code != 0
    assert "continue with the settings it began with" in refused.output


def test_a_folder_with_other_files_is_refused(tmp_path):
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "mine.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(FileExistsError, match="`folder` must be a new folder"):
        compare(SMALL, ["random"], tmp_path, num_tasks=5, verbose=0)
    assert (tmp_path / "test" / "mine.txt").exists()


@pytest.mark.parametrize("changed", ["preset", "seed", "iterations", "steps"])
def test_a_comparison_does_not_continue_with_other_settings(changed, tmp_path):
    compare(SMALL, ["random"], tmp_path, num_tasks=5, verbose=0)
    preset = dataclasses.replace(SMALL, name="other") if changed == "preset" else SMALL
    given = {"seed": 1} if changed == "seed" else {}
    given |= {"iterations": 40} if changed == "iterations" else {}
    given |= {"steps": 7} if changed == "steps" else {}
    with pytest.raises(ValueError, match="continue with the settings it began with"):
        compare(preset, ["random"], tmp_path, num_tasks=5, verbose=0, **given)


@pytest.mark.slow
def test_a_comparison_refuses_a_run_with_another_seed_in_its_folder(tmp_path):
    compare(SMALL, ["random"], tmp_path, num_tasks=5, verbose=0)
    there = {"preset": SMALL.name, "algorithm": "anil", "seed": 3, "iterations": 20}
    (tmp_path / "anil").mkdir()
    run_folder.write_config(tmp_path / "anil", there, program="train", command="")
    with pytest.raises(ValueError, match="must have.*'seed': 0.*Received.*'seed': 3"):
        compare(SMALL, ["random", "anil"], tmp_path, num_tasks=5, verbose=0)


@pytest.mark.slow
def test_a_continued_comparison_keeps_its_length(tmp_path):
    shorter = {"num_tasks": 5, "verbose": 0}
    compare(SMALL, ["random"], tmp_path, iterations=40, **shorter)
    result = compare(SMALL, ["random", "oracle"], tmp_path, **shorter)
    assert result.iterations["oracle"] == 40
    assert run_folder.read_config(tmp_path)["iterations"] == 40


@pytest.mark.slow
def test_a_continued_comparison_keeps_steps_and_data_folder(tmp_path):
    asked = []

    def families(**where):
        asked.append(where["data_dir"])
        return SMALL.families(**where)

    mine = dataclasses.replace(SMALL, families=families)
    given = {"num_tasks": 5, "verbose": 0}
    compare(mine, ["random"], tmp_path, steps=3, data_dir="here", **given)
    result = compare(mine, ["random", "oracle"], tmp_path, **given)
    assert set(asked) == {"here"}
    assert run_folder.read_config(tmp_path)["data_dir"] == "here"
    assert result.steps == result.results["oracle"].steps == 3


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"iterations": 25}, "`iterations` must be a multiple of 20 or of 10.*Take 20"),
        ({"iterations": 0}, "`iterations` must be a multiple"),
        ({"num_tasks": 0}, "`num_tasks` must be positive"),
    ],
)
def test_wrong_lengths_and_counts_are_refused_before_training(given, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        compare(SMALL, ["random", "maml"], tmp_path / "c", verbose=0, **given)
    assert not (tmp_path / "c").exists()


def test_the_length_of_a_run_is_a_multiple_of_twenty_or_of_an_epoch():
    long = dataclasses.replace(SMALL, epoch=1000)
    assert epoch_length(long, 25_020) == 25_020 // 20
    assert epoch_length(long, 25_000) == 1_000
    assert epoch_length(SMALL, 30) == 10  # No multiple of twenty, but of the epoch.


def test_the_command_line_refuses_the_folder_of_a_single_run(tmp_path):
    settings = {"preset": SMALL.name, "algorithm": "maml", "seed": 0}
    run_folder.write_config(tmp_path, settings, program="train", command="")
    arguments = ["compare", "sinusoid", "--out", str(tmp_path), "--resume"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 1
    assert "must be the folder of a comparison" in result.output


def test_the_folder_of_a_single_run_is_left_alone(tmp_path):
    settings = {"preset": SMALL.name, "algorithm": "maml", "seed": 0}
    run_folder.write_config(tmp_path, settings, program="train", command="")
    before = (tmp_path / run_folder.CONFIG).read_bytes()
    with pytest.raises(FileExistsError, match="`folder` must be a new folder"):
        compare(SMALL, ["random"], tmp_path, num_tasks=5, verbose=0)
    assert (tmp_path / run_folder.CONFIG).read_bytes() == before


def test_a_users_own_preset_is_compared(tmp_path):
    mine = dataclasses.replace(SMALL, name="mine")
    result = compare(mine, ["maml"], tmp_path, num_tasks=5, verbose=0)
    assert result.iterations["maml"] == 20


def test_a_call_in_python_is_recorded_as_the_command(tmp_path):
    compare(SMALL, ["random"], tmp_path, num_tasks=5, seed=3, verbose=0)
    call = "compare(preset, ['random'], folder, seed=3, num_tasks=5)"
    assert f"`{call}`" in (tmp_path / "comparison.md").read_text()
    figures = json.loads((tmp_path / "comparison.json").read_text())
    assert figures["command"] == call


def test_each_contender_is_announced(tmp_path):
    announced = []
    names = ["random", "oracle"]
    compare(SMALL, names, tmp_path, num_tasks=5, verbose=0, announce=announced.append)
    assert announced == ["random (1 of 2)", "oracle (2 of 2)"]


@pytest.mark.slow
def test_the_learning_curve_has_as_many_steps_as_the_test(tmp_path, monkeypatch):
    asked = []

    class Look(keras.callbacks.Callback):
        def __init__(self, log_dir, episodes, *, steps, every, verbose):
            super().__init__()
            asked.append(steps)

    monkeypatch.setattr(runs, "Watch", Look)
    result = compare(SMALL, ["maml"], tmp_path, steps=3, num_tasks=5, verbose=0)
    assert asked == [result.results["maml"].steps] == [3]


@pytest.mark.slow
def test_baselines_train_for_the_given_time(tmp_path):
    names = ["pretrained", "oracle", "random"]
    result = compare(SMALL, names, tmp_path, seconds=0.5, num_tasks=5, verbose=0)
    for name in names[:2]:
        assert result.seconds[name] >= 0.5
        assert result.iterations[name] > 50
    assert (result.seconds["random"], result.iterations["random"]) == (0.0, 0)


@pytest.mark.parametrize(
    ("names", "shown"),
    [
        (["maml", "mammal"], "maml, mammal. Did you mean 'maml'"),
        (["maml", "maml"], r"maml, maml\.$"),
    ],
)
def test_unknown_or_repeated_names_are_refused(names, shown, tmp_path):
    with pytest.raises(ValueError, match=f"must be different names.*{shown}"):
        compare(SMALL, names, tmp_path)

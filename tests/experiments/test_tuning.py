"""A search finds a planted rate, continues, and never sees a test task."""

import dataclasses
import importlib.util
import json
import math
import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf
from typer.testing import CliRunner

from maml_keras import data
from maml_keras.experiments import registry, run_folder, runs, trials, tuning
from maml_keras.experiments.preset import Families
from maml_keras.experiments.trials import Outcome, Training
from maml_keras.experiments.tuning import tune
from maml_keras_cli import app

# One inner step of this rate solves each task of `Slopes` exactly: the loss after it is
# (1 - 2 * rate)**2 times the loss before.
PLANTED = 0.5


class Slopes(data.TaskFamily):
    """`y = slope * x` at x = -1 and 1, so that the loss is `(weight - slope)**2`."""

    def sample(self, seed):
        x = tf.constant([[-1.0], [1.0]])
        y = x * tf.random.stateless_normal([], seed)
        return {"support_x": x, "support_y": y, "query_x": x}, y


class NeverUsed:
    """Test tasks that fail when anything asks for them."""

    def __getattr__(self, name):
        raise AssertionError(f"a search asked test tasks for {name}")


def model():
    weight = keras.layers.Dense(1, use_bias=False)
    return keras.Sequential([keras.Input([1]), weight])


SLOPES = dataclasses.replace(
    registry.get("sinusoid"),
    name="slopes",
    model=model,
    families=lambda **_: Families(Slopes(), Slopes(), NeverUsed()),
    tasks=4,
    iterations=20,
    evaluation_steps=1,
    variations={},
)
QUICK = {"num_tasks": 20, "verbose": 0}


@pytest.fixture
def asked(monkeypatch):
    """Trials without training: the loss has its minimum at a rate of 0.5."""
    found = []

    def run(self, changes, folder, *, epochs, **_):
        rate = changes["inner_rate"]
        found.append((rate, epochs))
        lost = rate > 5.0
        loss = math.log(rate / PLANTED) ** 2
        end = trials.DIVERGED if lost else trials.FINISHED
        outcome = Outcome(
            changes, end, epochs, math.inf if lost else loss, loss, 0.1, 9 * lost
        )
        (folder / runs.HISTORY).write_text(
            "".join(
                json.dumps({"epoch": i, "score": loss}) + "\n" for i in range(epochs)
            )
        )
        trials.write(folder, outcome)
        return outcome

    monkeypatch.setattr(Training, "run", run)
    nothing = dataclasses.make_dataclass("Nothing", ["metric", "mean"])("loss", 9.0)
    monkeypatch.setattr(Training, "untrained", lambda self: nothing)
    monkeypatch.setattr(tuning.figures, "can_draw", lambda: False)
    return found


@pytest.mark.parametrize("oracle", tuning.ORACLES)
def test_each_oracle_finds_the_planted_rate(oracle, asked, tmp_path):
    number = None if oracle == "hyperband" else 9
    found = tune(
        SLOPES,
        "inner_rate=0.01:50:log",
        tmp_path,
        oracle=oracle,
        trials=number,
        **QUICK,
    )
    assert found.best.changes["inner_rate"] == pytest.approx(PLANTED, rel=0.5)
    assert found.preset.variation("maml").changes == found.best.changes
    assert len(found.outcomes) == (number or len(asked))
    # Diverged trials are in the table, and counted.
    lost = sum(rate > 5.0 for rate, _ in asked)
    assert found.count("diverged") == lost > 0
    assert found.table().count("diverged |") == lost
    assert f"{lost} diverged" in str(found)
    kept = json.loads((tmp_path / "tuning.json").read_text())
    assert kept["best"]["inner_rate"] == found.best.changes["inner_rate"]
    if oracle == "hyperband":
        assert {epochs for _, epochs in asked} == {3, 7, 20}


def test_an_interrupted_search_continues_and_repeats_no_trial(
    asked, tmp_path, monkeypatch
):
    search = {"inner_rate": "0.01:5:log"}
    options = {"oracle": "random", "trials": 6, **QUICK}
    whole = tune(SLOPES, search, tmp_path / "whole", **options)
    assert len(asked) == 6
    asked.clear()
    run = Training.run

    def interrupted(self, *arguments, **keywords):
        if len(asked) == 3:
            raise KeyboardInterrupt
        return run(self, *arguments, **keywords)

    with monkeypatch.context() as patch:
        patch.setattr(Training, "run", interrupted)
        with pytest.raises(KeyboardInterrupt):
            tune(SLOPES, search, tmp_path / "cut", **options)
    again = tune(SLOPES, search, tmp_path / "cut", **options)
    assert again.outcomes == whole.outcomes
    assert len(asked) == len({rate for rate, _ in asked}) == 6
    # A search that has ended runs nothing; more trials continue it.
    assert tune(SLOPES, search, tmp_path / "cut", **options).outcomes == whole.outcomes
    more = tune(SLOPES, search, tmp_path / "cut", **{**options, "trials": 8})
    assert more.outcomes[:6] == whole.outcomes
    assert len(asked) == 8


def test_a_proposal_that_was_tried_takes_the_known_outcome(asked, tmp_path):
    # The Bayesian oracle may propose the same choice again and again.
    found = tune(SLOPES, "inner_rate=0.1,0.5", tmp_path, trials=4, **QUICK)
    assert len(asked) == 2
    assert found.best.changes == {"inner_rate": 0.5}


def test_another_search_and_another_folder_are_refused(asked, tmp_path):
    options = {"oracle": "random", "trials": 2, **QUICK}
    tune(SLOPES, "inner_rate=0.1:1", tmp_path / "a", **options)
    with pytest.raises(ValueError, match=r"began with: {'seed': 0}. Received: {'seed'"):
        tune(SLOPES, "inner_rate=0.1:1", tmp_path / "a", seed=1, **options)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "letter.txt").touch()
    with pytest.raises(FileExistsError, match="holds something else"):
        tune(SLOPES, "inner_rate=0.1:1", tmp_path / "b", **options)


def test_if_all_trials_diverge_a_sentence_says_so(asked, tmp_path):
    with pytest.raises(ValueError, match="3 trials, of which 3 diverged"):
        tune(SLOPES, "inner_rate=6:60", tmp_path, oracle="random", trials=3, **QUICK)


def test_an_error_in_a_trial_ends_the_search(asked, tmp_path, monkeypatch):
    def broken(self, *_, **__):
        raise OSError("the disk is full")

    monkeypatch.setattr(Training, "run", broken)
    with pytest.raises(OSError, match="^the disk is full"):
        tune(SLOPES, "inner_rate=0.1:1", tmp_path, trials=2, **QUICK)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"oracle": "grid"}, "must be one of bayesian, random, hyperband"),
        ({"oracle": "hyperband", "trials": 3}, "Hyperband has its own number"),
        ({"trials": 0}, "`trials` must be positive. Received: 0"),
        ({"num_tasks": 0}, "`num_tasks` must be positive. Received: 0"),
        ({"iterations": 1_001}, "`iterations` must be a multiple"),
    ],
)
def test_an_argument_that_does_not_fit_is_refused(options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        tune(SLOPES, "inner_rate=0.1:1", tmp_path / "t", **{**QUICK, **options})
    assert not (tmp_path / "t" / "config.toml").exists()


def test_without_keras_tuner_a_sentence_says_what_to_install(monkeypatch, tmp_path):
    find = importlib.util.find_spec

    def without(name, *arguments):
        return None if name == "keras_tuner" else find(name, *arguments)

    monkeypatch.setattr(importlib.util, "find_spec", without)
    with pytest.raises(ImportError, match=r"needs KerasTuner.*'maml_keras\[tune\]'"):
        tune(SLOPES, "inner_rate=0.1:1", tmp_path / "t", **QUICK)


@pytest.mark.journey
@pytest.mark.usefixtures("tasks_in_a_loop")
def test_training_finds_the_planted_rate_on_validation_tasks_alone(tmp_path):
    lines = []
    found = tune(
        SLOPES,
        {"inner_rate": [0.25, PLANTED, 20.0]},
        tmp_path,
        oracle="random",
        trials=3,
        announce=lines.append,
        **QUICK,
    )
    assert found.best.changes == {"inner_rate": PLANTED}
    assert found.best.mean == pytest.approx(0.0, abs=1e-10)
    (lost,) = [o for o in found.outcomes if o.changes["inner_rate"] == 20.0]
    assert (lost.end, lost.epochs, lost.diverged_tasks) == ("diverged", 1, 20)
    assert len(lines) == 6
    assert (tmp_path / "tuning.png").stat().st_size > 10_000
    assert not list(tmp_path.rglob(runs.BACKUP))


@pytest.mark.journey
@pytest.mark.usefixtures("tasks_in_a_loop", "no_looks")
def test_train_takes_the_best_settings(tmp_path, monkeypatch):
    small = dataclasses.replace(
        registry.get("sinusoid"), iterations=20, epoch=10, evaluation_steps=1
    )
    monkeypatch.setitem(registry.PRESETS, "sinusoid", small)

    def run(*arguments):
        result = CliRunner().invoke(app, [str(a) for a in arguments])
        assert result.exit_code == 0, result.output
        return result.output

    place = tmp_path / "t"
    values = "inner_rate=0.001,0.1", "steps=1,2"
    options = "--oracle", "random", "--trials", 2, "--tasks", 10, "--out", place
    output = run("tune", "sinusoid", "--search", *values, *options)
    assert "best of 2 trials: inner_rate" in output
    config = place / "best" / "config.toml"
    assert f"maml-keras train --config {config}" in output
    run("train", "--config", config, "--out", tmp_path / "run", "--tasks", 4, "-q")
    maml, _, settings = runs.load(tmp_path / "run")
    best = json.loads((place / "tuning.json").read_text())["best"]
    assert maml.rule.fixed_rate == pytest.approx(best["inner_rate"])
    assert maml.inner.steps == best["steps"]
    assert settings["changes"] == run_folder.read_config(config.parent)["changes"]
    # The run's first training is that of the trial: same seed, weights and episodes.
    losses = [[r["loss"] for r in runs.history(p)] for p in _histories(place, best)]
    np.testing.assert_allclose(
        losses[0], [r["loss"] for r in runs.history(tmp_path / "run")], rtol=1e-4
    )
    # The search's own config continues it, and nothing is trained again.
    again = run("tune", "--config", place / "config.toml", "--out", place, "--resume")
    assert "trial 1: inner_rate" not in again


def _histories(place: pathlib.Path, best):
    for outcome in place.glob("trials/trial_*/outcome.json"):
        changes = json.loads(outcome.read_text())["changes"]
        if all(best[name] == value for name, value in changes.items()):
            yield outcome.parent

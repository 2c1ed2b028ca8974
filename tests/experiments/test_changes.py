"""Changed settings reach the model, the optimizer, the run folder and the program."""

import dataclasses

import keras
import pytest
from typer.testing import CliRunner

from maml_keras.experiments import changes, registry, run_folder, runs
from maml_keras.experiments.algorithm_settings import Variation
from maml_keras_cli import app

SINUSOID = registry.get("sinusoid")
SMALL = dataclasses.replace(SINUSOID, iterations=4, epoch=2, evaluation_steps=1)


def rate(maml):
    return float(maml.optimizer.learning_rate)


@pytest.mark.parametrize("algorithm", ["maml", "reptile", "imaml"])
def test_inner_rate_steps_and_outer_rate_reach_the_model(algorithm):
    changed = SINUSOID.with_changes(
        algorithm, inner_rate=0.3, steps=3, outer_rate=0.2, evaluation_steps=7
    )
    maml = changed.build(algorithm, 10)
    assert maml.inner.steps == 3
    rule = getattr(maml.rule, "rule", maml.rule)  # iMAML's is clipped.
    assert rule.fixed_rate == pytest.approx(0.3)
    assert rate(maml) == pytest.approx(0.2)
    assert type(maml.optimizer) is type(SINUSOID.build(algorithm, 10).optimizer)
    assert changed.of(algorithm).evaluation_steps == 7
    assert "steps=3" in changed.of(algorithm).protocol
    # The other algorithms stay as they were.
    assert changed.variation("anil") == SINUSOID.variation("anil")


def test_a_schedule_begins_at_the_outer_rate_and_keeps_its_form():
    cosine = dataclasses.replace(SINUSOID, cosine=True)
    optimizer = cosine.with_changes(outer_rate=0.5).build("maml", 10).optimizer
    for step, expected in [(0, 0.5), (5, 0.25), (10, 0.0)]:
        optimizer.iterations.assign(step)
        assert float(optimizer.learning_rate) == pytest.approx(expected, abs=1e-6)


def test_a_schedule_without_an_initial_rate_is_refused():
    def make(iterations):
        values = keras.optimizers.schedules.PiecewiseConstantDecay([5], [0.1, 0.01])
        return keras.optimizers.SGD(values)

    preset = dataclasses.replace(
        SINUSOID, variations={"maml": Variation(optimizer=make)}
    )
    with pytest.raises(ValueError, match="Received: PiecewiseConstantDecay"):
        preset.with_changes(outer_rate=0.1).build("maml", 10)


def test_arguments_of_the_recipe_reach_it_and_win_over_the_schedule():
    changed = SINUSOID.with_changes("imaml", cg_steps=2, batch_norm="support")
    maml = changed.build("imaml")
    assert maml.meta_gradient.cg_steps == 2
    assert maml.learner.batch_norm.name == "support"
    changed = SINUSOID.with_changes("maml_plus_plus", multi_step_epochs=3)
    (until,) = changed.build("maml_plus_plus", 2_000).meta_gradient.until
    assert until == 3 * SINUSOID.epoch


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"inner_rat": 0.1}, "Received: 'inner_rat'. Did you mean 'inner_rate'"),
        ({"steps": 0.5}, "`steps` must be of type int. Received: steps=0.5"),
        ({"steps": True}, "`steps` must be of type int. Received: steps=True"),
        ({"inner_rate": "fast"}, "`inner_rate` must be of type float"),
        ({"adapt": 1}, "Received: 'adapt'"),
        ({"inner_rate": None}, "`inner_rate` must be of type float"),
    ],
)
def test_a_change_that_does_not_fit_is_refused(given, message):
    with pytest.raises(ValueError, match=message):
        SINUSOID.with_changes(**given)


@pytest.mark.parametrize("text", ["", "steps", "steps=", "=3", "steps=1 steps=2"])
def test_a_text_of_another_form_is_refused(text):
    with pytest.raises(ValueError, match="must be NAME=VALUE"):
        changes.read(text, "maml")


def test_text_and_changes_are_inverse():
    found = {"inner_rate": 1e-05, "steps": 3, "clip_norm": None, "batch_norm": "layer"}
    assert changes.read(changes.write(found), "imaml") == found


@pytest.mark.journey
@pytest.mark.usefixtures("tasks_in_a_loop", "no_looks")
def test_train_takes_changes_records_them_and_refuses_others(tmp_path, monkeypatch):
    monkeypatch.setitem(registry.PRESETS, "sinusoid", SMALL)

    def train(*arguments):
        return CliRunner().invoke(
            app, ["train", *arguments, "--out", str(tmp_path / "run"), "--quiet"]
        )

    first = train("sinusoid", "--changes", "inner_rate=0.2 steps=2", "--tasks", "4")
    assert first.exit_code == 0, first.output
    config = run_folder.read_config(tmp_path / "run")
    assert config["changes"] == "inner_rate=0.2 steps=2"
    maml, preset, _ = runs.load(tmp_path / "run")
    assert (maml.inner.steps, maml.rule.fixed_rate) == (2, pytest.approx(0.2))
    assert "with inner_rate=0.2 steps=2" in preset.protocol
    other = train("sinusoid", "--resume", "--changes", "inner_rate=0.1")
    assert other.exit_code == 1
    assert "inner_rate=0.2 steps=2" in other.output
    none = train("sinusoid", "--resume")
    assert none.exit_code == 1
    own = train("--config", str(tmp_path / "run" / "config.toml"), "--resume")
    assert own.exit_code == 0, own.output

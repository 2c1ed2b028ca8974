"""Training for a given time: the end, the outer rate, the looks and a resumed run."""

import dataclasses
import time
import typing

import keras
import numpy as np
import pytest

from maml_keras.experiments import registry, run_folder, runs
from maml_keras.experiments.time_limit import (
    LOOKS,
    Clock,
    Paced,
    steps_within,
    take_schedule,
)
from maml_keras.monitoring.epoch_log import Stopwatch
from maml_keras.monitoring.watch import Watch
from maml_keras.outer.backup import WholeBackup

pytestmark = [pytest.mark.journey, pytest.mark.usefixtures("tasks_in_a_loop")]

SMALL = dataclasses.replace(
    registry.get("sinusoid"), iterations=40, evaluation_steps=1, cosine=True
)


@pytest.fixture
def ticks(monkeypatch):
    """A false clock that shows `ticks.value` seconds."""

    class Ticks:
        value = 0.0

    monkeypatch.setattr(time, "perf_counter", lambda: Ticks.value)
    return Ticks


class Slow(keras.callbacks.Callback):
    """Batches that take `lengths` seconds; the last length holds for all later ones."""

    def __init__(self, ticks, *lengths):
        super().__init__()
        self.ticks, self.lengths, self.rates = ticks, list(lengths), []

    def on_train_batch_begin(self, batch, logs=None):
        self.rates.append(float(self.model.optimizer.learning_rate))
        first, *rest = self.lengths
        self.ticks.value += first
        self.lengths = rest or [first]


def fit(ticks, lengths, **options):
    model = keras.Sequential([keras.Input([1]), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    slow, stopwatch = Slow(ticks, *lengths), Stopwatch()
    clock = Clock(10.0, stopwatch, **options)
    x = np.zeros([40, 1])
    model.fit(
        x, x, batch_size=1, epochs=9, verbose=0, callbacks=[stopwatch, clock, slow]
    )
    return stopwatch, slow.rates


@pytest.mark.parametrize(
    ("lengths", "steps", "seconds"),
    [
        ([99.0, 1.0], 11, 10.0),  # The first batch compiles and does not count.
        ([99.0] + [1.0] * 5 + [3.0], 8, 11.0),  # Slower from halfway on: fewer steps.
        ([99.0, 0.125], 81, 10.0),  # Fast: more steps.
    ],
)
def test_training_ends_when_its_time_is_used_up(ticks, lengths, steps, seconds):
    stopwatch, _ = fit(ticks, lengths)
    assert (stopwatch.steps, stopwatch.seconds) == (steps, seconds)


def test_the_rate_follows_the_share_of_the_time_not_the_steps(ticks):
    # The schedule reaches zero after 1,000 steps; the time is up after 8.
    schedule = keras.optimizers.schedules.PolynomialDecay(1.0, 1000, 0.0)
    _, rates = fit(
        ticks, [99.0] + [1.0] * 5 + [2.5], schedule=schedule, iterations=1000
    )
    expected = [1.0, 1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.25]
    np.testing.assert_allclose(rates, expected, rtol=1e-5)


def test_the_bar_shows_seconds_instead_of_steps(ticks, capsys):
    fit(ticks, [99.0, 1.0], verbose=1)
    assert "10/10" in capsys.readouterr().out.replace(".0", "")


def test_a_time_of_zero_is_refused():
    with pytest.raises(ValueError, match="`seconds` must be positive. Received: 0"):
        Clock(0, Stopwatch())


def test_take_schedule_changes_nothing_but_the_rate():
    maml = SMALL.build("maml", 100)
    before = maml.get_compile_config()
    schedule = take_schedule(maml)
    assert float(schedule(50)) == pytest.approx(SMALL.learning_rate / 2)
    after = maml.get_compile_config()
    rate = after["optimizer"]["config"].pop("learning_rate")
    assert rate == pytest.approx(SMALL.learning_rate)
    before["optimizer"]["config"].pop("learning_rate")
    assert after == before
    assert take_schedule(maml) is None


@pytest.mark.slow
def test_planned_epochs_have_a_round_number_of_steps(monkeypatch):
    monkeypatch.setattr(Stopwatch, "steps_a_second", 20.0)
    where = {"data_dir": None, "download": False}
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    assert steps_within(SMALL, "maml", 431.0, where) == LOOKS * 400
    assert keras.config.dtype_policy().name == "mixed_bfloat16"
    keras.config.set_dtype_policy(policy)


def test_the_measured_speed_leaves_the_first_call_out(ticks):
    stopwatch, _ = fit(ticks, [99.0, 0.5])
    assert stopwatch.steps_a_second == 2.0


@pytest.mark.slow
def test_looks_are_spread_evenly_over_the_time(ticks):
    class Look(keras.callbacks.Callback):
        seen: typing.ClassVar[list[float]] = []

        def on_epoch_end(self, epoch, logs=None):
            self.seen.append(ticks.value)

    model = keras.Sequential([keras.Input([1]), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    stopwatch = Stopwatch()
    clock = Clock(100.0, stopwatch)
    look, x = Paced(Look(), clock), np.zeros([1, 1])
    model.fit(
        x,
        x,
        epochs=200,
        verbose=0,
        callbacks=[stopwatch, clock, look, Slow(ticks, 0.0, 1.0)],
    )
    assert Look.seen == [5.0 * k for k in range(1, LOOKS + 1)]


@pytest.mark.slow
def test_slow_looks_take_no_more_time_than_training(ticks):
    seen = []

    class Look(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            seen.append(logs["seconds"])
            ticks.value += 30.0

    model = keras.Sequential([keras.Input([1]), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    stopwatch = Stopwatch()
    clock = Clock(100.0, stopwatch)
    x = np.zeros([1, 1])
    model.fit(
        x,
        x,
        epochs=200,
        verbose=0,
        callbacks=[stopwatch, clock, Paced(Look(), clock), Slow(ticks, 0.0, 1.0)],
    )
    assert seen == [5.0, 30.0, 60.0, 90.0, 100.0]


@pytest.mark.slow
@pytest.mark.default_map
def test_a_resumed_run_trains_for_the_time_it_had_left(tmp_path, monkeypatch):
    monkeypatch.setattr("maml_keras.monitoring.figures.can_draw", lambda: False)
    monkeypatch.setitem(registry.PRESETS, "sinusoid", SMALL)
    look, cut = Watch.on_epoch_end, {"at": 2}

    def crash(self, epoch, logs=None):
        if epoch == cut["at"]:
            raise RuntimeError("power cut")
        look(self, epoch, logs)

    monkeypatch.setattr(Watch, "on_epoch_end", crash)
    ticking = {"now": 0.0}

    def tick():  # Every reading of the clock takes a second.
        ticking["now"] += 1.0
        return ticking["now"]

    monkeypatch.setattr(time, "perf_counter", tick)
    options = {"seconds": 60.0, "iterations": 20, "verbose": 0}
    with pytest.raises(RuntimeError, match="power cut"):
        runs.train(SMALL, tmp_path, **options)
    before = runs.history(tmp_path)
    assert [row["epoch"] for row in before] == [0, 1]
    assert 0.0 < before[-1]["seconds"] < 60.0
    cut["at"] = None
    with monkeypatch.context() as patch:
        patch.setattr(
            WholeBackup, "remove", lambda self: self._folder.rename(tmp_path / "kept")
        )
        # `iterations` is not given again: the resumed run keeps its first value.
        runs.train(SMALL, tmp_path, seconds=60.0, resume=True, verbose=0)
    after = runs.history(tmp_path)
    assert after[:2] == before
    assert [row["epoch"] for row in after] == list(range(len(after)))
    assert "adapted_loss" in after[-1]  # The last epoch ends with a look.
    assert after[-2]["seconds"] < 60.0 <= after[-1]["seconds"] < 66.0
    # A run interrupted after its last epoch has nothing left to train, and ends.
    (tmp_path / runs.MODEL).unlink()
    (tmp_path / "kept").rename(tmp_path / runs.BACKUP)
    runs.train(SMALL, tmp_path, seconds=60.0, resume=True, verbose=0)
    assert runs.history(tmp_path) == after
    maml, _, config = runs.load(tmp_path)
    assert (config["seconds"], config["iterations"], config["epoch"]) == (60.0, 20, 1)
    assert int(maml.optimizer.iterations) == len(after)
    assert float(maml.optimizer.learning_rate) < 0.1 * SMALL.learning_rate
    record = run_folder.read_config(tmp_path)
    with pytest.raises(ValueError, match="resume with the settings.*'seconds': 60"):
        runs.train(SMALL, tmp_path, seconds=61.0, resume=True, verbose=0)
    with pytest.raises(ValueError, match="resume with the settings.*'seconds': 60"):
        runs.train(SMALL, tmp_path, iterations=20, resume=True, verbose=0)
    assert run_folder.read_config(tmp_path) == record

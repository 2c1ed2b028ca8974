"""Bars that show inner steps while a graph runs."""

import concurrent.futures
import threading
import time

import helpers
import keras
import numpy as np
import pytest
import tensorflow as tf

import maml_keras as mk
from maml_keras.backend import progress, step_progress
from maml_keras.backend.progress import Bar
from maml_keras.backend.step_progress import StepReport
from maml_keras.export import reading
from maml_keras.outer import adaptation


class Seen:
    """A loss that waits in the third step until a bar has shown two steps."""

    def __init__(self, monkeypatch):
        self.shown, self.waited, self.calls = threading.Event(), [], 0
        update = Bar.update

        def noted(bar, done, values=None):
            update(bar, done, values)
            if done == 2:
                self.shown.set()

        monkeypatch.setattr(Bar, "update", noted)

    def __call__(self, y_true, y_pred):
        nothing = tf.numpy_function(self.wait, [y_pred], tf.float32)
        nothing = tf.stop_gradient(tf.ensure_shape(nothing, []))
        return keras.losses.mean_squared_error(y_true, y_pred) + nothing

    def wait(self, value):
        self.calls += 1
        if self.calls == 3:
            self.waited.append(self.shown.wait(20))
        return np.float32(0)


def test_a_bar_shows_steps_while_the_graph_runs(at_once, monkeypatch):
    model = keras.Sequential([keras.Input([1]), keras.layers.Dense(1)])
    loss = Seen(monkeypatch)
    mk.MAML(model, mk.InnerLoop(loss, mk.SGD(0.1))).adapt(
        np.ones([2, 1]), np.zeros([2, 1]), steps=4
    )
    assert loss.calls == 4
    assert loss.waited == [True]


def test_the_same_count_is_shown_once(at_once, capsys, monkeypatch):
    monkeypatch.setattr(step_progress, "LOOK", 0.001)
    report = StepReport()
    with report.shown(4):
        report.write(4, loss=0.25)
        time.sleep(0.2)  # Stands for work of the graph after its last step.
    assert capsys.readouterr().out.count("4/4") == 1


def test_a_failed_call_ends_its_line(at_once, capsys):
    report = StepReport()

    def refuse():
        report.write(4, loss=0.25)
        raise ValueError("refused")

    with pytest.raises(ValueError, match="refused"), report.shown(10):
        refuse()
    out = capsys.readouterr().out
    assert "4/4" in out
    assert out.endswith("\n")


def test_the_loss_of_the_last_call_is_not_shown_in_the_next(at_once, capsys):
    report = StepReport()
    with report.shown(1):
        report.write(1, loss=0.25)
    assert "loss" in capsys.readouterr().out
    with report.shown(1):
        pass
    assert "loss" not in capsys.readouterr().out


def test_zero_steps_show_no_bar(at_once, capsys):
    maml = mk.MAML(helpers.dense(), mk.InnerLoop("mse", mk.SGD(0.1)))
    maml.adapt(np.ones([2, 3]), np.zeros([2, 2]), steps=0)
    assert capsys.readouterr().out == ""


def test_quick_adaptation_shows_no_bar(capsys, monkeypatch):
    monkeypatch.setattr(progress, "SECONDS", 1000.0)
    maml = mk.MAML(helpers.dense(), mk.InnerLoop("mse", mk.SGD(0.1)))
    maml.adapt(np.ones([2, 3]), np.zeros([2, 2]), steps=5)
    assert capsys.readouterr().out == ""


def test_disabling_the_logging_of_keras_silences_the_bar(at_once, capsys):
    keras.config.disable_interactive_logging()
    try:
        report = StepReport()
        with report.shown(4):
            report.write(4, loss=0.25)
            time.sleep(2 * step_progress.LOOK)
    finally:
        keras.config.enable_interactive_logging()
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("verbose", [0, 1])
def test_adaptation_has_a_bar_with_the_support_loss(verbose, at_once, capsys):
    model = keras.Sequential([keras.Input([1]), keras.layers.Dense(1, use_bias=False)])
    model.set_weights([np.ones([1, 1])])
    maml = mk.MAML(model, mk.InnerLoop("mse", mk.SGD(0.25)))
    # The loss is w^2 and each step halves w, so step 12 begins with a loss of 2^-22.
    maml.adapt(np.ones([2, 1]), np.zeros([2, 1]), steps=12, verbose=verbose)
    out = capsys.readouterr().out
    assert ("12/12" in out) == bool(verbose)
    assert ("loss: 2.3842e-07" in out) == bool(verbose)


@pytest.mark.parametrize("verbose", [0, 1])
def test_fine_tuning_an_export_has_a_bar(verbose, at_once, capsys, tmp_path):
    maml = mk.MAML(helpers.dense(1, 1), mk.InnerLoop("mse", mk.SGD(0.1), steps=3))
    maml.export(tmp_path / "export", verbose=0)
    x, y = np.ones([2, 1], np.float32), np.zeros([2, 1], np.float32)
    mk.fine_tune(tmp_path / "export", x, y, verbose=verbose)
    out = capsys.readouterr().out
    assert ("3/3" in out) == ("loss" in out) == bool(verbose)


def test_only_fine_tune_of_an_export_reports_progress(tmp_path):
    maml = mk.MAML(helpers.dense(1, 1), mk.InnerLoop("mse", mk.SGD(0.1)))
    maml.export(tmp_path / "export", verbose=0)
    saved = tf.saved_model.load(str(tmp_path / "export"))
    x, y = tf.ones([2, 1]), tf.zeros([2, 1])
    saved.adapt(x, y, steps=3)
    saved.adapt_and_predict(x, y, x, steps=3)
    assert saved.progress.numpy().tolist() == [0.0, 0.0]
    saved.fine_tune(x, y, steps=3)
    assert saved.progress.numpy()[0] == 3.0
    assert saved.progress.numpy()[1] > 0.0


def test_an_export_without_progress_is_fine_tuned_without_a_bar(at_once, capsys):
    calls = []

    class Earlier:
        def fine_tune(self, x, y, steps):
            calls.append(steps)

    reading.tuned(Earlier(), [1.0], [1.0], steps=2, learning_rate=None)
    assert calls == [2]
    assert capsys.readouterr().out == ""


def test_bars_of_concurrent_calls_show_their_own_loss(at_once, monkeypatch):
    arrived, other = {1.0: 0, 4.0: 0}, {1.0: 4.0, 4.0: 1.0}
    came = threading.Condition()
    shown = {}

    class Recorded(progress.Bar):
        def update(self, done, values=None):
            losses = shown.setdefault(id(self), set())
            losses.update(round(float(v), 3) for v in (values or {}).values())

        def finish(self, done):
            pass

    def loss(y_true, y_pred):
        def wait(value):
            # The other call is within the same step, too: both have written the loss
            # of the step before, and their bars show it.
            own = float(value)
            if own not in arrived:
                return value
            with came:
                arrived[own] += 1
                came.notify_all()
                came.wait_for(lambda: arrived[other[own]] >= arrived[own], timeout=60)
            time.sleep(3 * step_progress.LOOK)
            return value

        value = tf.reduce_mean(tf.square(y_true))
        held = tf.stop_gradient(tf.numpy_function(wait, [value], tf.float32))
        return tf.reshape(held, []) + 0.0 * tf.reduce_mean(y_pred)

    monkeypatch.setattr(step_progress, "Bar", Recorded)
    model = keras.Sequential([keras.Input([1]), keras.layers.Dense(1)])
    maml = mk.MAML(model, mk.InnerLoop(loss, mk.SGD(0.1)))
    x = np.ones([2, 1], "float32")
    # The first call traces the graph that later calls share.
    maml.adapt(x, np.zeros([2, 1], "float32"), steps=1, verbose=0)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        calls = [
            pool.submit(maml.adapt, x, np.full([2, 1], y, "float32"), steps=3)
            for y in (1.0, 2.0)
        ]
        for call in calls:
            call.result()
    assert sorted(shown.values(), key=sorted) == [{1.0}, {4.0}]


def test_calls_of_adapt_share_one_graph(monkeypatch):
    maml = mk.MAML(helpers.dense(), mk.InnerLoop("mse", mk.SGD(0.1)))
    traces = []
    adapted = adaptation.adapted_weights
    monkeypatch.setattr(
        adaptation,
        "adapted_weights",
        lambda *arguments: traces.append(1) or adapted(*arguments),
    )
    for _ in range(3):
        maml.adapt(np.ones([2, 3]), np.zeros([2, 2]), steps=2)
    assert len(traces) == 1

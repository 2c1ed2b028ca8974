"""Files with weights that are not finite are never written."""

import json
import pathlib

import keras
import numpy as np
import pytest
from helpers import dense, maml, regression

from maml_keras import BadTaskError, WholeBackup
from maml_keras.experiments import runs
from maml_keras.experiments.registry import get
from maml_keras.outer.finite_weights import first_not_finite

pytestmark = pytest.mark.usefixtures("tasks_in_a_loop", "without_graphs")
MESSAGE = "must hold finite numbers only. Received: 1 of "


def trained():
    model = maml(dense(), steps=0)
    model.compile("adam")
    model.train_on_batch(*regression())
    return model


def spoiled(variable, value):
    array = np.array(variable)
    array.flat[0] = value
    variable.assign(array)


def contents(folder):
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def backed_up(callback):
    def write(model, folder):
        made = callback(folder / "backup")
        made.set_model(model)
        # Keras makes these calls at the end of an epoch.
        made._current_epoch = made._last_batch_seen = 0
        made._save_model()

    return write


def checkpointed(name, **kwargs):
    def write(model, folder):
        made = keras.callbacks.ModelCheckpoint(folder / name, **kwargs)
        made.set_model(model)
        made.on_train_begin()
        made.on_epoch_end(0, {})

    return write


WRITERS = {
    "save": lambda model, folder: model.save(folder / "maml.keras"),
    "save_weights": lambda model, folder: model.save_weights(folder / "w.weights.h5"),
    "export": lambda model, folder: model.export(folder / "export", verbose=0),
    "checkpoint": checkpointed("c.keras"),
    "checkpoint of weights": checkpointed("c.weights.h5", save_weights_only=True),
    "whole backup": backed_up(WholeBackup),
    "backup of Keras": backed_up(keras.callbacks.BackupAndRestore),
}


@pytest.mark.parametrize(
    ("writer", "value"), [*((name, np.nan) for name in WRITERS), ("save", np.inf)]
)
def test_no_writer_writes_weights_that_are_not_finite(writer, value, tmp_path):
    model = trained()
    WRITERS[writer](model, tmp_path)
    before = contents(tmp_path)
    assert before
    spoiled(model.model.trainable_variables[0], value)
    with pytest.raises(ValueError, match=MESSAGE):
        WRITERS[writer](model, tmp_path)
    assert contents(tmp_path) == before


def test_an_optimizer_that_is_not_finite_is_not_written_either(tmp_path):
    model = trained()
    spoiled(model.optimizer.variables[-1], np.inf)
    with pytest.raises(ValueError, match=MESSAGE):
        model.save(tmp_path / "maml.keras")
    assert not contents(tmp_path)


def test_a_metric_that_is_not_finite_does_not_prevent_saving(tmp_path):
    model = trained()
    loss = next(metric for metric in model.metrics if metric.name == "loss")
    spoiled(loss.variables[0], np.nan)
    model.save(tmp_path / "maml.keras")


def test_half_precision_is_checked():
    model = keras.Sequential(
        [keras.Input([1]), keras.layers.Dense(1, dtype="bfloat16")]
    )
    assert first_not_finite(model) is None
    spoiled(model.layers[0].bias, np.inf)
    assert first_not_finite(model) is model.layers[0].bias


class Masked(keras.layers.Layer):
    """Adds a frozen mask, and counts its calls in a variable."""

    def build(self, shape):
        self.mask = self.add_weight(shape=shape[1:], trainable=False, name="mask")
        self.calls = self.add_weight(
            shape=[], trainable=False, name="calls", initializer="zeros"
        )

    def call(self, x):
        self.calls.assign(self.calls + 1.0)
        return keras.activations.softmax(x + self.mask)


def masked():
    layers = keras.layers.Dense(3), Masked(), keras.layers.Dense(2)
    model = maml(keras.Sequential([keras.Input([3]), *layers]), task_map="parallel")
    spoiled(layers[1].mask, -np.inf)
    model.compile("adam", jit_compile=False)
    model.train_on_batch(*regression())
    return model, layers[1]


def test_a_frozen_mask_of_infinity_is_written_and_blamed_for_nothing(tmp_path):
    model, layer = masked()
    for writer in ("save_weights", "whole backup"):
        WRITERS[writer](model, tmp_path)
    # Without a learner, as in the backup of a pretrained network.
    assert first_not_finite(model.model) is None
    task, query_y = regression()
    with pytest.raises(BadTaskError, match="task 0 of its batch"):
        model.train_on_batch(task, query_y * np.inf)
    spoiled(layer.mask, np.nan)
    with pytest.raises(ValueError, match=f"{MESSAGE}3 values of '.*mask'"):
        model.save_weights(tmp_path / "w.weights.h5")


def test_what_passes_assign_must_be_finite(tmp_path):
    model, layer = masked()
    spoiled(layer.calls, np.inf)
    with pytest.raises(ValueError, match=f"{MESSAGE}1 values of '.*calls'"):
        model.save_weights(tmp_path / "w.weights.h5")


def test_a_moving_statistic_must_be_finite_before_any_training():
    norm = keras.layers.BatchNormalization()
    model = keras.Sequential([keras.Input([2]), keras.layers.Dense(2), norm])
    spoiled(norm.moving_variance, np.inf)
    assert first_not_finite(model) is norm.moving_variance


@pytest.mark.graphs
@pytest.mark.usefixtures("no_looks")
def test_a_run_keeps_its_backup_and_writes_no_model(tmp_path, monkeypatch):
    fit = runs.MAML.fit

    def spoiling(model, *args, **kwargs):
        history = fit(model, *args, **kwargs)
        spoiled(model.model.trainable_variables[0], np.nan)
        return history

    monkeypatch.setattr(runs.MAML, "fit", spoiling)
    with pytest.raises(ValueError, match=MESSAGE):
        runs.train(get("sinusoid"), tmp_path / "run", iterations=2, verbose=0)
    assert not (tmp_path / "run" / runs.MODEL).exists()
    backup = pathlib.Path(tmp_path / "run" / runs.BACKUP)
    assert json.loads((backup / "training_metadata.json").read_text())["epoch"] == 1

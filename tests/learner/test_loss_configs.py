"""Saved losses come back with every argument that they were made with."""

import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import dense, regression

import maml_keras as mk
from maml_keras.learner.loss_configs import loss_config
from maml_keras.learner.losses import PureLoss


@keras.saving.register_keras_serializable("tests")
class Weighted(keras.losses.Loss):
    """A loss of a user's own without a `get_config`."""

    def __init__(self, factor=1.0, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor

    def call(self, y_true, y_pred):
        return self.factor * tf.reduce_mean(tf.abs(y_pred - y_true), axis=-1)


MADE = {
    "huber": lambda: keras.losses.Huber(delta=0.5),
    "cosine": lambda: keras.losses.CosineSimilarity(axis=0),
    "own": lambda: Weighted(factor=3.0),
    "known": lambda: mk.KnownTargets(keras.losses.Huber(delta=0.5)),
    "dict": lambda: {"out": keras.losses.Huber(delta=0.5)},
    "list": lambda: [keras.losses.Huber(delta=0.5)],
}


@pytest.mark.parametrize("name", MADE)
def test_the_rebuilt_loss_has_the_value_of_the_first(name):
    rng = np.random.default_rng(0)
    y, p = 3 * rng.standard_normal((2, 4, 2)).astype("float32")
    if name == "dict":
        y, p = {"out": y}, {"out": p}
    if name == "list":
        y, p = [y], [p]
    loss = PureLoss(MADE[name]())
    again = PureLoss.deserialize(loss.serialize())
    np.testing.assert_allclose(again(y, p), loss(y, p), rtol=1e-6)


def test_a_saved_learner_keeps_the_arguments_of_both_losses(tmp_path):
    inner = mk.InnerLoop(keras.losses.Huber(delta=0.5), mk.SGD(0.1))
    maml = mk.MAML(dense(), inner)
    maml.compile("sgd", loss=keras.losses.Huber(delta=0.25))
    batch = regression((3,))
    maml.train_on_batch(*batch)
    maml.save(tmp_path / "maml.keras")
    again = keras.saving.load_model(tmp_path / "maml.keras")
    assert again.train_on_batch(*batch) == pytest.approx(
        maml.train_on_batch(*batch), rel=1e-6
    )
    found = again.get_compile_config()["loss"]["config"]["delta"]
    assert (found, again.inner.loss.identifier._fn_kwargs["delta"]) == (0.25, 0.5)


def test_every_loss_of_keras_writes_all_its_arguments_down():
    for name in dir(keras.losses):
        kind = getattr(keras.losses, name)
        if isinstance(kind, type) and kind is not keras.losses.Loss:
            loss = kind()
            taken = set(inspect.signature(kind).parameters)
            kept = taken & set(loss._fn_kwargs)
            assert kept <= set(loss_config(loss)["config"]), name

"""A policy replaces the call of Keras's layer inside a pass only."""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import (
    batch_normalised,
    maml,
    regression,
)

from maml_keras import fine_tune, to_keras
from maml_keras.learner import batch_norm_policies, batch_norm_policy


def test_keras_own_call_is_restored_afterwards():
    before = keras.layers.BatchNormalization.call
    model = maml(batch_normalised())
    model.compile("sgd")
    model.train_on_batch(*regression())
    model.predict_on_batch(regression()[0])
    assert keras.layers.BatchNormalization.call is before
    assert before.__module__.startswith("keras.")


def test_a_policy_object_is_used_unchanged():
    policy = batch_norm_policies.Running()
    assert batch_norm_policies.get(policy) is policy


@keras.saving.register_keras_serializable(package="tests")
class Batchwise(batch_norm_policies.Running):
    """A custom policy that inherits the name of another policy."""

    def uses_batch_statistics(self, *, training):
        return True


def test_a_custom_policy_is_restored_from_a_file(tmp_path):
    model = maml(batch_normalised(), batch_norm=Batchwise())
    model.compile("sgd")
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert type(loaded.batch_norm) is Batchwise
    task, _ = regression()
    np.testing.assert_array_equal(loaded(task), model(task))
    model.export(tmp_path / "export", verbose=0)
    x, y = task["support_x"][0], task["support_y"][0]
    revived = to_keras(tmp_path / "export")
    adapted = fine_tune(tmp_path / "export", x, y, steps=1)
    expected = model.adapt(x, y, steps=1).predict(x, verbose=0)
    np.testing.assert_allclose(
        adapted.predict(x, verbose=0), expected, rtol=1e-5, atol=1e-6
    )
    assert len(revived.variables) == len(model.model.variables)


class InInferenceMode(keras.Model):
    """Keras's idiom for a pretrained network: `base(x, training=False)`.

    In a functional model, Keras itself would override this `training=False` in `fit`.
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.base, self.head = batch_normalised(outputs=4), keras.layers.Dense(2)
        self.base(np.zeros([1, 3]))
        self.head.build([None, 4])
        self.built = True

    def call(self, x):
        return self.head(self.base(x, training=False))


def test_an_overridden_training_false_gives_a_warning():
    task = regression()[0]
    with pytest.warns(UserWarning, match="`training=False`, which the batch-norm pol"):
        maml(InInferenceMode()).compute_meta_gradients(regression())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        maml(InInferenceMode(), batch_norm="frozen")(task)
        maml(batch_normalised()).compute_meta_gradients(regression())
        maml(batch_normalised()).predict(task, verbose=0)


def test_padding_and_a_mask_of_positions_count_together():
    layer = keras.layers.BatchNormalization()
    mask = np.array([[1, 1], [1, 0], [1, 1]], bool)
    present = tf.constant([True, True, False])
    both = batch_norm_policy._without_padding(layer, tf.ones([3, 2, 4]), mask, present)
    assert both.numpy().tolist() == [[True, True], [True, False], [False, False]]

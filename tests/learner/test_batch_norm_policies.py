"""Which statistics each batch-norm policy uses; policies by name."""

import numpy as np
import pytest
import tensorflow as tf
from helpers import (
    assert_identical,
    batch_normalised,
    maml,
    numpy_variables,
    regression,
)

from maml_keras.learner import batch_norm_policies
from maml_keras.learner.learner import Learner


@pytest.mark.parametrize(
    ("policy", "training", "uses_batch"),
    [
        ("transductive", True, True),
        ("transductive", False, True),
        ("running", True, True),
        ("running", False, False),
    ],
)
def test_policy_decides_which_statistics_are_used(policy, training, uses_batch):
    model = batch_normalised()
    model.layers[1].moving_mean.assign_add(tf.range(6.0) / 10)
    x = regression()[0]["support_x"][0]
    learner = Learner(model, batch_norm=policy)
    output = learner(learner.weights(), learner.state(), x, training=training)
    expected = model(x, training=uses_batch)
    np.testing.assert_allclose(output.predictions, expected, rtol=1e-5, atol=1e-6)
    chosen = batch_norm_policies.get(policy)
    assert chosen.uses_batch_statistics(training=training) == uses_batch


def test_unknown_policy_is_refused():
    with pytest.raises(ValueError, match=r"one of \[.*'transductive'\].*'batch'"):
        maml(batch_normalised(), batch_norm="batch")


@pytest.mark.parametrize("policy", ["transductive", "running"])
def test_meta_gradients_alone_change_nothing(policy):
    model = maml(batch_normalised(), batch_norm=policy)
    before = numpy_variables(model)
    model.compute_meta_gradients(regression())
    assert_identical(before, numpy_variables(model))

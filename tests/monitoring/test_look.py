"""The learned rates of a look at a run."""

import helpers
import numpy as np
import tensorflow as tf

import maml_keras as mk
from maml_keras.monitoring.look import learned_rates


def rated(rule, steps=1):
    return mk.MAML(helpers.dense(), mk.InnerLoop("mse", rule, steps=steps))


def test_a_layers_learned_rate_is_the_mean_over_its_weights():
    maml = rated(mk.MetaSGD(0.5))
    first, _bias = maml.rule.rates[:2]  # A kernel of 12 weights and 4 biases.
    first.assign(tf.fill(first.shape, 1.0))
    rates = learned_rates(maml)
    np.testing.assert_allclose(rates.table, [[(12 * 1.0 + 4 * 0.5) / 16, 0.5]])
    assert [values.size for values in rates.values.values()] == [16, 10]


def test_learned_rates_of_each_step_and_through_clipping():
    maml = rated(mk.ClipByNorm(mk.PerStepSGD(0.5), 10.0), steps=2)
    maml.rule.rule.rates.assign([[0.1, 0.2], [0.3, 0.4]])
    np.testing.assert_allclose(learned_rates(maml).table, [[0.1, 0.2], [0.3, 0.4]])


def test_the_learned_rate_of_matrices_is_their_gain():
    maml = rated(mk.MetaCurvature(0.5))
    np.testing.assert_allclose(learned_rates(maml).table, [[0.5, 0.5]], rtol=1e-6)
    for matrices in maml.rule.matrices[:2]:  # The first layer's.
        for matrix in matrices:
            matrix.assign(2.0 * matrix)
    # Two axes of the kernel, one of the bias: 4 and 2 times the rate, each one number.
    np.testing.assert_allclose(learned_rates(maml).table, [[1.5, 0.5]], rtol=1e-6)


def test_a_fixed_rate_does_not_count_as_learned():
    assert learned_rates(rated(mk.SGD(0.5))) is None

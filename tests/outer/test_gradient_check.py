"""`check_meta_gradient` finds wrong gradients and blames no undecided variable."""

import itertools
import random

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import (
    assert_identical,
    batch_normalised,
    dense,
    maml,
    numpy_variables,
    regression,
    regularised,
)

from maml_keras import (
    MAML,
    SGD,
    InnerLoop,
    MetaGradientError,
    UpdateRule,
    check_meta_gradient,
    last_layer,
    rate_of,
    satisfying,
)
from maml_keras.outer import gradient_twin
from maml_keras.outer.gradient_check import _PRECISIONS

layers = keras.layers


@tf.custom_gradient
def softplus_once(x):
    """The first derivative is right; the second derivative is zero, which is wrong."""

    def gradient(upstream):
        return upstream * tf.stop_gradient(tf.sigmoid(x))

    return tf.math.softplus(x), gradient


@keras.saving.register_keras_serializable(package="tests")
class WrongSecondDerivative(layers.Layer):
    def call(self, x):
        return softplus_once(x)


@keras.saving.register_keras_serializable(package="tests")
class Sawtooth(layers.Layer):
    """Jumps by 1e-6 far more often than the smallest step of the differences."""

    def call(self, x):
        return x + tf.stop_gradient(1e-6 * tf.math.floormod(x * 1e9, 1.0))


@keras.saving.register_keras_serializable(package="tests")
class Spoiled(layers.Layer):
    """Multiplies its gradient by NaN or infinity."""

    def __init__(self, factor, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor

    def call(self, x):
        spoiled = tf.custom_gradient(lambda x: (x, lambda g: g * self.factor))
        return spoiled(x)

    def get_config(self):
        return {**super().get_config(), "factor": self.factor}


def through(layer):
    return keras.Sequential(
        [keras.Input([3]), layers.Dense(4, name="body"), layer, layers.Dense(2)]
    )


def test_right_model_passes_with_small_errors():
    model = dense()
    checks = check_meta_gradient(maml(model), regression())
    assert [c.path for c in checks] == [v.path for v in model.trainable_variables]
    assert all(c.decided and c.error < 1e-7 for c in checks)
    assert all(c.analytic != 0.0 for c in checks)


def test_regularisers_are_checked_in_float64():
    checks = check_meta_gradient(maml(regularised()), regression())
    assert all(c.decided and c.error < 1e-7 for c in checks)


def test_wrong_second_derivative_is_found_and_named():
    model = maml(through(WrongSecondDerivative()))
    with pytest.raises(MetaGradientError, match=r"body/kernel: .* differences give"):
        check_meta_gradient(model, regression())


def test_wrong_second_derivative_does_not_matter_without_steps():
    checks = check_meta_gradient(
        maml(through(WrongSecondDerivative()), steps=0), regression()
    )
    assert all(c.error < 1e-7 for c in checks)


def test_first_order_fails_and_the_message_says_why():
    with pytest.raises(
        MetaGradientError, match="'Backprop, first order' is by design not the"
    ):
        check_meta_gradient(maml(dense(), second_order=False), regression())


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_steps_of_the_differences_shrink(dtype):
    # Differences converge as the step shrinks; a step of size one would leave the
    # neighbourhood in which the loss is nearly a parabola.
    precision = _PRECISIONS[dtype]
    steps = precision.sizes
    assert steps[0] < 0.05
    assert steps[-1] > 0
    assert all(after < before for before, after in itertools.pairwise(steps))
    bounds = precision.tolerance, precision.agreement, precision.floor
    assert all(0 < bound <= 1e-2 for bound in bounds)
    assert 0 < precision.repeats < precision.tolerance


def test_tolerance_is_respected():
    model = maml(dense(), second_order=False)
    checks = check_meta_gradient(model, regression(), tolerance=10.0)
    assert max(c.error for c in checks) > 1e-3


def test_non_smooth_part_is_undecided_and_not_blamed():
    # The body does not adapt, so the teeth do not move with the head.
    inner = InnerLoop("mse", SGD(0.1), adapt=last_layer())
    checks = check_meta_gradient(MAML(through(Sawtooth()), inner), regression())
    body_kernel, *_, head_bias = checks
    assert head_bias.decided
    assert not body_kernel.decided
    assert body_kernel.error > 1e-6  # It would have been blamed.


def test_a_check_that_decides_nothing_is_no_success():
    model = keras.Sequential([keras.Input([3]), layers.Dense(2), Sawtooth()])
    with pytest.raises(MetaGradientError, match="decided nothing.*not smooth"):
        check_meta_gradient(maml(model), regression())


@keras.saving.register_keras_serializable(package="tests")
class Whim(layers.Layer):
    """Another factor each time that it is traced."""

    def call(self, x):
        return x * random.uniform(0.5, 1.5)


def test_a_layer_that_is_another_one_in_each_trace_is_not_blamed():
    random.seed(0)
    with pytest.raises(MetaGradientError, match="in one trace.*SeedGenerator"):
        check_meta_gradient(maml(through(Whim())), regression())


@keras.saving.register_keras_serializable(package="tests")
class Narrow(layers.Layer):
    """Computes in float32, whatever it is given."""

    def call(self, x):
        return tf.cast(tf.sin(tf.cast(x, tf.float32)), x.dtype)


def test_a_layer_that_computes_in_less_is_named():
    model = maml(through(Narrow(name="narrow")))
    words = r"less than float64: layer 'narrow' \(Narrow\)\. .*dtype='float32'"
    with pytest.raises(MetaGradientError, match=words):
        check_meta_gradient(model, regression())
    checks = check_meta_gradient(model, regression(), dtype="float32")
    assert all(check.decided and check.error < 1e-2 for check in checks)


def narrow_loss(y_true, y_pred):
    difference = tf.cast(y_true - y_pred, tf.float32)
    return tf.square(difference)


def test_a_loss_that_computes_in_less_is_named():
    with pytest.raises(MetaGradientError, match="less than float64: the loss"):
        check_meta_gradient(maml(dense(), loss=narrow_loss), regression())


@keras.saving.register_keras_serializable(package="tests")
class Grid(layers.Layer):
    """Makes tensors of the default float type."""

    def call(self, x):
        return x * keras.ops.arange(1.0, 5.0) + keras.ops.ones([4])


@keras.saving.register_keras_serializable(package="tests")
class Noise(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.seeds = keras.random.SeedGenerator(1)

    def call(self, x, training=False):
        noise = keras.random.normal(keras.ops.shape(x), seed=self.seeds)
        return x + 0.1 * noise if training else x


@pytest.mark.parametrize("layer", [Grid, Noise])
def test_tensors_of_the_default_type_are_as_wide_as_the_check(layer):
    checks = check_meta_gradient(maml(through(layer())), regression())
    assert all(check.decided and check.error < 1e-7 for check in checks)


def volumes(pooling):
    return keras.Sequential(
        [
            keras.Input([4, 4, 4, 1]),
            layers.Conv3D(2, 2, padding="same", activation="tanh"),
            pooling,
            layers.Flatten(),
            layers.Dense(2),
        ]
    )


@pytest.mark.parametrize(
    "layer",
    [
        lambda: layers.AveragePooling3D(2, name="pool"),
        lambda: layers.MaxPooling3D(2, name="pool"),
    ],
)
def test_a_kernel_that_float64_does_not_have_is_said_and_float32_checks(layer):
    model, batch = maml(volumes(layer())), regression((4, 4, 4, 1))
    words = r"no float64 kernel.*layer 'pool' \(\w+Pooling3D\).*dtype='float32'"
    with pytest.raises(MetaGradientError, match=words):
        check_meta_gradient(model, batch)
    checks = check_meta_gradient(model, batch, dtype="float32")
    assert any(check.decided for check in checks)


def test_float32_finds_a_wrong_second_derivative_too():
    model = maml(through(WrongSecondDerivative()), steps=2, rate=0.5)
    with pytest.raises(MetaGradientError, match="body/kernel"):
        check_meta_gradient(model, regression(), dtype="float32")


def test_another_type_is_refused():
    with pytest.raises(ValueError, match="`dtype` must be one of.*'float16'"):
        check_meta_gradient(maml(dense()), regression(), dtype="float16")


@pytest.mark.parametrize("policy", ["transductive", "running"])
def test_check_leaves_the_model_bit_for_bit(policy):
    model = batch_normalised()
    wrapped = maml(model, batch_norm=policy)
    before = numpy_variables(wrapped)
    floatx = keras.config.floatx()
    check_meta_gradient(wrapped, regression())
    assert_identical(before, numpy_variables(wrapped))
    assert keras.config.floatx() == floatx


def test_outer_loss_is_the_compiled_one():
    model = maml(dense())
    model.compile("sgd", loss="mae")
    batch = regression()
    checks = check_meta_gradient(model, batch)
    _, gradients = model.compute_meta_gradients(batch)
    direction = np.random.default_rng(0).normal(size=gradients[0].shape)
    direction /= np.linalg.norm(direction)
    along = np.sum(gradients[0].numpy() * direction)
    # The model's own gradient is float32.
    np.testing.assert_allclose(checks[0].analytic, along, rtol=1e-4)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_gradient_that_is_not_finite_is_wrong(value):
    model = keras.Sequential(
        [keras.Input([3]), layers.Dense(2, name="body"), Spoiled(value)]
    )
    with pytest.raises(MetaGradientError, match="body/kernel"):
        check_meta_gradient(maml(model, steps=0), regression(), verbose=0)


@keras.saving.register_keras_serializable(package="tests")
class OwnRate(UpdateRule):
    """A learned rate that the rule creates with `add_weight`, like any layer."""

    def prepare(self, variables, steps):
        if not self.built:
            start = keras.initializers.Constant(-2.0)
            self.log_rate = self.add_weight(shape=[], initializer=start)
            self.built = True

    def update(self, weights, gradients, state, *, step, learning_rate=None):
        rate = tf.exp(self.log_rate.value)
        rates = [rate_of(rate, learning_rate, w) for w in weights]
        return [w - r * g for w, r, g in zip(weights, rates, gradients)], state


def test_learned_variables_of_a_custom_rule_are_checked_in_float64():
    model = MAML(dense(), InnerLoop("mse", OwnRate()))
    *_, rate = check_meta_gradient(model, regression())
    assert rate.decided
    assert rate.error < 1e-7


def test_the_check_has_the_learned_values_of_today():
    model = MAML(batch_normalised(), InnerLoop("mse", OwnRate()), batch_norm="per_step")
    ours = [*model.rule.variables, *model.batch_norm.variables]
    for value, variable in enumerate(ours, start=1):
        variable.assign(tf.fill(variable.shape, 0.01 * value))
    copy = gradient_twin.twin(model, "float64")
    theirs = [*copy.rule.variables, *copy.batch_norm.variables]
    assert len(theirs) == len(ours) > 1
    for a, b in zip(theirs, ours):
        assert a.dtype == "float64"
        np.testing.assert_allclose(a, b, rtol=1e-6)


def test_functions_without_a_configuration_are_kept_in_the_check():
    loop = InnerLoop(
        lambda y_true, y_pred: tf.square(y_true - y_pred),
        SGD(0.1),
        adapt=satisfying(lambda variable: "head" in variable.path),
    )
    checks = check_meta_gradient(MAML(dense(), loop), regression())
    assert all(check.decided for check in checks)

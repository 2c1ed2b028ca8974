"""A missing derivative is refused with the name of the layer or the loss."""

import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import dense, maml, regression

import maml_keras as mk
from maml_keras.backend.missing_derivatives import MissingDerivativeError
from maml_keras.outer.derivative_checks import place

layers = keras.layers


@keras.saving.register_keras_serializable(package="tests")
class LocalResponse(layers.Layer):
    """A layer without a second derivative in TensorFlow."""

    def call(self, x):
        wide = tf.cast(x[:, None, None], tf.float32)  # The only type with a kernel.
        return tf.cast(tf.nn.local_response_normalization(wide)[:, 0, 0], x.dtype)


@keras.saving.register_keras_serializable(package="tests")
class Shuffled(layers.Layer):
    """A layer whose first derivative TensorFlow drops."""

    def call(self, x):
        return tf.random.shuffle(x)


def network(middle):
    inside = keras.Sequential([keras.Input([4]), middle], name="inside")
    return keras.Sequential(
        [keras.Input([3]), layers.Dense(4, activation="tanh"), inside, layers.Dense(2)]
    )


def fitted(wrapped, batch):
    wrapped.compile("sgd")
    return wrapped.fit(*batch, batch_size=2, verbose=0).history["loss"][0]


def eager(wrapped, batch):
    return float(wrapped.compute_meta_gradients(batch)[0])


SECOND = r"second derivative of layer 'lrn' \(LocalResponse\).*LRNGrad.*FirstOrder"


@pytest.mark.parametrize("run", [fitted, eager])
@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("task_map", ["auto", "sequential", "vectorized"])
def test_second_derivative_is_refused_with_the_layers_name(run, steps, task_map):
    wrapped = maml(network(LocalResponse(name="lrn")), steps=steps, task_map=task_map)
    with pytest.raises(MissingDerivativeError, match=SECOND):
        run(wrapped, regression())


@pytest.mark.parametrize(
    "options",
    [
        {"inner": {"rematerialize": True}},
        {"inner": {"proximal": 1.0}, "meta_gradient": mk.Implicit()},
    ],
)
def test_other_estimators_refuse_a_missing_second_derivative(options):
    inner = mk.InnerLoop("mse", mk.SGD(0.1), steps=2, **options.pop("inner"))
    wrapped = mk.MAML(network(LocalResponse(name="lrn")), inner, **options)
    with pytest.raises(MissingDerivativeError, match=SECOND):
        fitted(wrapped, regression())


def test_first_order_needs_no_second_derivative():
    inner = mk.InnerLoop("mse", mk.SGD(0.1), steps=2)
    model = network(LocalResponse(name="lrn"))
    wrapped = mk.MAML(model, inner, meta_gradient=mk.FirstOrder())
    assert np.isfinite(fitted(wrapped, regression()))


def test_check_meta_gradient_names_the_layer_without_a_derivative():
    with pytest.raises(MissingDerivativeError, match=SECOND):
        mk.check_meta_gradient(maml(network(LocalResponse(name="lrn"))), regression())


@pytest.mark.parametrize("run", [fitted, eager])
def test_a_dropped_first_derivative_is_refused_in_every_order(run):
    inner = mk.InnerLoop("mse", mk.SGD(0.1))
    for estimate in (mk.Backprop(), mk.FirstOrder()):
        wrapped = mk.MAML(network(Shuffled()), inner, meta_gradient=estimate)
        with pytest.raises(
            MissingDerivativeError, match="layer 'shuffled.*Shuffled.*RandomShuffle"
        ):
            run(wrapped, regression())


def test_a_dropped_derivative_before_the_first_weight_is_accepted():
    model = keras.Sequential([keras.Input([3]), Shuffled(), layers.Dense(2)])
    assert np.isfinite(fitted(maml(model), regression()))


RENORM = inspect.signature(layers.BatchNormalization).parameters.get("renorm")


@pytest.mark.skipif(RENORM is None, reason="not in this Keras")
def test_batch_renormalisation_is_refused_to_second_order():
    def model():
        return network(layers.BatchNormalization(renorm=True, name="norm"))

    words = r"'norm' \(BatchNormalization\) has `renorm=True`.*FirstOrder"
    with pytest.raises(MissingDerivativeError, match=words):
        eager(maml(model()), regression())
    assert np.isfinite(eager(maml(model(), second_order=False), regression()))


# Losses -------------------------------------------------------------------------------


def ctc(task_map="parallel", **options):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input([6, 3]), layers.Dense(4)])
    inner = mk.InnerLoop(keras.losses.CTC(), mk.SGD(0.01))
    generator = np.random.default_rng(0)
    x = generator.normal(size=[1, 3, 6, 3]).astype("float32")
    y = generator.integers(1, 4, [1, 3, 2]).astype("int32")
    batch = {"support_x": x, "support_y": y, "query_x": x}, y
    return mk.MAML(model, inner, task_map=task_map, **options), batch


@pytest.mark.parametrize("run", [fitted, eager])
def test_ctc_is_refused_with_its_name(run):
    # TensorFlow alone gives a finite loss with a gradient of NaN.
    words = "second derivative of the loss 'ctc'.*FirstOrder"
    with pytest.raises(MissingDerivativeError, match=words):
        run(*ctc())


def test_ctc_trains_to_first_order():
    wrapped, batch = ctc(meta_gradient=mk.FirstOrder())
    _, gradients = wrapped.compute_meta_gradients(batch)
    assert all(np.isfinite(g).all() and np.any(g) for g in gradients)
    assert np.isfinite(fitted(wrapped, batch))


def test_ctc_falls_back_to_the_loop():
    wrapped, batch = ctc(task_map="auto", meta_gradient=mk.FirstOrder())
    loss = fitted(wrapped, batch)
    assert "has no form with a task axis" in str(wrapped.task_map)
    looping, _ = ctc(task_map="sequential", meta_gradient=mk.FirstOrder())
    np.testing.assert_allclose(loss, fitted(looping, batch), rtol=1e-6)


@keras.saving.register_keras_serializable(package="tests")
def entropy(y_true, y_pred):
    """The entropy, for adaptation without labels: its labels depend on the weights."""
    return keras.losses.categorical_crossentropy(
        tf.nn.softmax(y_pred), y_pred, from_logits=True
    )


def test_meta_gradient_of_an_entropy_matches_differences():
    wrapped = maml(dense(outputs=3), loss=entropy, steps=2, rate=0.5)
    wrapped.compile("sgd", loss="mse")
    checks = mk.check_meta_gradient(wrapped, regression(outputs=3), verbose=0)
    assert all(check.decided and check.error < 1e-7 for check in checks)


def test_meta_gradient_of_softsign_matches_differences():
    # `Dense` keeps the function, so the function is from before the scope opens.
    for activation in ("softsign", tf.nn.softsign):
        wrapped = maml(dense(activation=activation), steps=2)
        checks = mk.check_meta_gradient(wrapped, regression(), verbose=0)
        assert all(check.decided and check.error < 1e-7 for check in checks)


# Names --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scope", "words"),
    [
        ("gradient_tape/sequential_3/inside_1/lrn_12/LRNGrad", "layer 'lrn'"),
        ("gradients/while/sequential_3/inside/x_grad/LRNGrad", "layer 'inside'"),
        ("gradient_tape/loss/x", "the loss 'a' or 'b'"),
        ("gradient_tape/other/x", "model 'sequential' outside of its layers"),
        ("", "model 'sequential' outside of its layers"),
    ],
)
def test_place_is_the_innermost_layer(scope, words):
    model = network(LocalResponse(name="lrn"))
    found = place(model, scope, losses=["a", "b"])
    assert found.replace(model.name, "sequential").startswith(words)

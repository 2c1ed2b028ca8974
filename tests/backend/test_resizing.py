"""Resizing gives TensorFlow's numbers, and derivatives that TensorFlow lacks."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import maml, regression, tensors
from tensorflow.python.ops import gen_image_ops

import maml_keras as mk
from maml_keras.backend.resizing import exact_resizing

layers = keras.layers
METHODS = ["bilinear", "nearest", "bicubic", "area", "lanczos3", "lanczos5"]
METHODS += ["gaussian", "mitchellcubic"]
SIZES = [((5, 7), (9, 4)), ((6, 4), (6, 3)), ((8, 8), (3, 16))]
X = np.random.default_rng(0).normal(size=[2, 8, 8, 3])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("known", [True, False])
def test_numbers_equal_the_numbers_of_tensorflow(method, antialias, known):
    for (height, width), size in SIZES:
        x = tf.constant(X[:, :height, :width], tf.float32)
        expected = tf.image.resize(x, size, method, antialias=antialias)
        shape = x.shape if known else [None, None, None, None]

        @tf.function(
            input_signature=[tf.TensorSpec(shape), tf.TensorSpec([2], "int32")]
        )
        def resized(x, size, known=size):
            return tf.image.resize(
                x, known if known else size, method, antialias=antialias
            )

        with exact_resizing():
            got = resized(x, tf.constant(size))
        # float32: weights of one rounding each, sums of up to 16 terms.
        np.testing.assert_allclose(got, expected, atol=2e-6)


@pytest.mark.parametrize("resize", ["bilinear", "nearest_neighbor", "bicubic", "area"])
def test_corners_are_aligned_as_in_tensorflow(resize):
    kernel = getattr(tf.compat.v1.image, f"resize_{resize}")
    x = tf.constant(X, tf.float32)
    expected = kernel(x, [5, 11], align_corners=True)
    with exact_resizing():
        got = kernel(x, [5, 11], align_corners=True)
    np.testing.assert_allclose(got, expected, atol=2e-6)  # float32


def test_integer_images_use_tensorflows_kernels():
    x = tf.constant(X * 9, tf.uint8)
    with exact_resizing():
        for method in ("bilinear", "nearest"):
            expected = tf.image.resize(x, [3, 5], method)
            assert tf.image.resize(x, [3, 5], method).dtype == expected.dtype


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("method", ["bilinear", "nearest", "lanczos3"])
def test_types_equal_the_types_of_tensorflow(dtype, method):
    x = tf.cast(X, dtype)
    if dtype != "bfloat16" or method != "lanczos3":  # TensorFlow has no such kernel.
        expected = tf.image.resize(x, [3, 5], method).dtype
        with exact_resizing():
            assert tf.image.resize(x, [3, 5], method).dtype == expected


@pytest.mark.parametrize("method", METHODS)
def test_float64_is_resized_in_float64(method):
    with exact_resizing():
        resized = tf.image.resize(tf.constant(X), [3, 11], method)
        # Linear to the precision of float64, so nothing was computed in float32.
        sums = tf.image.resize(tf.constant(X[:1] / 3 + X[1:] / 7), [3, 11], method)
    assert resized.dtype == tf.float64
    np.testing.assert_allclose(sums[0], resized[0] / 3 + resized[1] / 7, atol=1e-14)


def network(middle, shape=(4, 4, 3)):
    """A smooth network with a curved layer after the resize.

    The curvature makes the second derivative of the resize count.
    """
    return keras.Sequential(
        [
            keras.Input([5]),
            layers.Dense(int(np.prod(shape)), activation="tanh"),
            layers.Reshape(shape),
            middle,
            layers.Activation("tanh"),
            layers.Flatten(),
            layers.Dense(2),
        ]
    )


@keras.saving.register_keras_serializable(package="tests")
class Resize(layers.Layer):
    """A user's own layer that calls `tf.image.resize`."""

    def __init__(self, method="bilinear", antialias=False, **kwargs):
        super().__init__(**kwargs)
        self.method, self.antialias = method, antialias

    def call(self, x):
        return tf.image.resize(x, [3, 5], self.method, antialias=self.antialias)

    def get_config(self):
        config = {"method": self.method, "antialias": self.antialias}
        return {**super().get_config(), **config}


LAYERS = {
    **{
        f"UpSampling2D {method}": lambda method=method: layers.UpSampling2D(
            interpolation=method
        )
        for method in ["nearest", "bilinear", "bicubic", "lanczos3", "lanczos5"]
    },
    **{
        f"Resizing {method} {antialias}": lambda method=method, antialias=antialias: (
            layers.Resizing(6, 3, interpolation=method, antialias=antialias)
        )
        for method, antialias in itertools.product(
            ["nearest", "bilinear", "bicubic", "area"], [False, True]
        )
    },
    **{
        f"tf.image.resize {method} {antialias}": lambda method=method, aa=antialias: (
            Resize(method, aa)
        )
        for method, antialias in itertools.product(METHODS, [False, True])
    },
    "UpSampling2D channels first": lambda: layers.UpSampling2D(
        interpolation="bilinear", data_format="channels_first"
    ),
    "Resizing cropped": lambda: layers.Resizing(3, 2, crop_to_aspect_ratio=True),
    "Resizing padded": lambda: layers.Resizing(3, 2, pad_to_aspect_ratio=True),
}
QUICK = {"UpSampling2D bilinear", "Resizing bicubic False", "Resizing nearest True"}
QUICK |= {"tf.image.resize lanczos3 True", "tf.image.resize area False"}


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in LAYERS],
)
def test_second_order_meta_gradient_matches_differences(name):
    model = maml(network(LAYERS[name]()), rate=0.3)
    checks = mk.check_meta_gradient(model, regression((5,)), verbose=0)
    assert all(check.decided and check.error < 1e-7 for check in checks)


def gradients(model, batch):
    return [tf.convert_to_tensor(g) for g in model.compute_meta_gradients(batch)[1]]


def test_every_map_and_xla_give_the_same_numbers():
    network_ = network(layers.UpSampling2D(interpolation="bicubic"))
    batch = tensors(regression((5,)))
    expected = gradients(maml(network_, task_map="sequential"), batch)
    for task_map, jit_compile in [("parallel", False), ("vectorized", True)]:
        wrapped = maml(network_, task_map=task_map)
        run = tf.function(
            lambda batch, wrapped=wrapped: gradients(wrapped, batch),
            jit_compile=jit_compile,
        )
        for got, wanted in zip(run(batch), expected):
            # float32, the same sums in another order.
            np.testing.assert_allclose(got, wanted, rtol=1e-3, atol=1e-5)


def test_a_file_and_an_export_give_the_same_numbers(tmp_path):
    model = maml(network(layers.UpSampling2D(interpolation="bilinear")), steps=2)
    task, query_y = tensors(regression((5,)))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    for got, expected in zip(
        gradients(loaded, (task, query_y)), gradients(model, (task, query_y))
    ):
        np.testing.assert_array_equal(got, expected)
    saved = tf.saved_model.load(str(model.export(tmp_path / "export", verbose=0)))
    support = task["support_x"][0], task["support_y"][0]
    answers = saved.adapt_and_predict(*support, task["query_x"][0], steps=2)
    # float32, the same sums in another order.
    np.testing.assert_allclose(answers, model.predict(task, verbose=0)[0], atol=1e-5)


def second_derivative(x):
    """The second derivative in x of a sum of cubed resized pixels."""
    with tf.GradientTape() as outer:
        outer.watch(x)
        with tf.GradientTape() as inner:
            inner.watch(x)
            value = tf.reduce_sum(tf.image.resize(x, [3, 3]) ** 3)
        slope = tf.reduce_sum(inner.gradient(value, x) * X[..., :1])
    return outer.gradient(slope, x)


def test_tensorflows_own_second_derivative_is_wrong():
    # If this test fails, TensorFlow was fixed and `exact_resizing` can be removed.
    x = tf.constant(X[..., :1], tf.float32)
    with exact_resizing():
        right = second_derivative(x)
    try:
        own = second_derivative(x)
    except (LookupError, TypeError):
        return
    assert own is None or np.abs(own - right).max() > 0.1


def test_tensorflow_is_unchanged_outside_the_scope():
    names = ["resize_bilinear", "resize_bicubic", "resize_area"]
    names += ["resize_nearest_neighbor", "scale_and_translate"]
    before = [getattr(gen_image_ops, name) for name in names]
    with exact_resizing():
        for name, kernel in zip(names, before):
            assert getattr(gen_image_ops, name) is not kernel
    for name, kernel in zip(names, before):
        assert getattr(gen_image_ops, name) is kernel

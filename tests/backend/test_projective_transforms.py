"""Projective transforms: TensorFlow's numbers, and their true derivative."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import maml, regression

import maml_keras as mk
from maml_keras.backend.projective_transforms import exact_projections

layers = keras.layers
X = np.random.default_rng(0).normal(size=[3, 5, 7, 2])
FILLS = ["CONSTANT", "NEAREST", "REFLECT", "WRAP"]


def transforms(count, shift, seed=0):
    noise = np.random.default_rng(seed).normal(size=[count, 8])
    scales = np.array([0.2, 0.2, shift, 0.2, 0.2, shift, 0.01, 0.01])
    return np.array([1.0, 0, 0, 0, 1, 0, 0, 0]) + noise * scales


def projected(x, along, fill="CONSTANT", interpolation="BILINEAR", size=(6, 4)):
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=x,
        transforms=tf.cast(along, tf.float32),
        output_shape=size,
        fill_value=0.7,
        interpolation=interpolation,
        fill_mode=fill,
    )


@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("interpolation", ["NEAREST", "BILINEAR"])
def test_numbers_are_those_of_tensorflow(fill, interpolation):
    x = tf.constant(X, tf.float32)
    for count, shift in itertools.product((1, 3), (0.3, 3.0, 20.0)):
        for seed in range(3):
            along = transforms(count, shift, seed)
            expected = projected(x, along, fill, interpolation)
            with exact_projections():
                got = projected(x, along, fill, interpolation)
            # float32: the weights are differences of coordinates up to 50.
            np.testing.assert_allclose(got, expected, atol=1e-4)


@pytest.mark.parametrize("interpolation", ["NEAREST", "BILINEAR"])
@pytest.mark.parametrize("fill", FILLS)
def test_halves_and_turns_are_those_of_tensorflow(fill, interpolation):
    x = tf.constant(X, tf.float32)
    for along in (
        [1, 0, 0.5, 0, 1, -0.5, 0, 0],
        [0, 1, 0, -1, 0, 4, 0, 0],
        [1, 0, -3.5, 0, 1, 2.5, 0, 0],
    ):
        expected = projected(x, [along], fill, interpolation)
        with exact_projections():
            got = projected(x, [along], fill, interpolation)
        np.testing.assert_allclose(got, expected, atol=1e-6)


def test_types_and_whole_numbers_are_those_of_tensorflow():
    for dtype in (tf.float16, tf.float32, tf.float64, tf.uint8):
        x = tf.cast(np.abs(X) * 50, dtype)
        with exact_projections():
            assert projected(x, transforms(1, 1.0)).dtype == dtype


@pytest.mark.parametrize("fill", FILLS)
def test_gradient_is_the_transpose(fill):
    x = tf.constant(X)
    along = transforms(3, 2.0)
    generator = np.random.default_rng(1)
    moved, upstream = (
        generator.normal(size=X.shape),
        generator.normal(size=[3, 6, 4, 2]),
    )
    with exact_projections(), tf.GradientTape() as tape:
        tape.watch(x)
        value = tf.reduce_sum(projected(x, along, fill) * upstream)
    gradient = tape.gradient(value, x)
    with exact_projections():
        # Linear but for the fill value.
        change = projected(x + moved, along, fill) - projected(x, along, fill)
    np.testing.assert_allclose(
        np.sum(gradient * moved), np.sum(change * upstream), rtol=1e-10
    )


def test_gradient_of_the_transform_matches_differences():
    x = tf.constant(X)
    generator = np.random.default_rng(2)
    upstream = generator.normal(size=[3, 6, 4, 2])
    direction = generator.normal(size=[3, 8])

    def value(along):
        moved = tf.raw_ops.ImageProjectiveTransformV3(
            images=x,
            transforms=along,
            output_shape=[6, 4],
            fill_value=0.7,
            interpolation="BILINEAR",
        )
        return tf.reduce_sum(moved * upstream)

    along = tf.constant(transforms(3, 1.0))
    with exact_projections(), tf.GradientTape() as tape:
        tape.watch(along)
        loss = value(along)
    found = np.sum(tape.gradient(loss, along) * direction)
    with exact_projections():
        ends = [float(value(along + s * 1e-6 * direction)) for s in (1, -1)]
    np.testing.assert_allclose(found, (ends[0] - ends[1]) / 2e-6, rtol=1e-6)


@keras.saving.register_keras_serializable(package="tests")
class Turned(layers.Layer):
    def call(self, x):
        along = np.array([0.9, 0.2, 0.3, -0.3, 1.1, 0.4, 0.01, 0.0], "float32")
        return keras.ops.image.affine_transform(x, along)


def checks_behind_weights(layer, dtype, steps=2):
    model = keras.Sequential(
        [
            keras.Input([6, 6, 2]),
            layers.Dense(3, activation="tanh"),
            layer,
            layers.Activation("tanh"),
            layers.Flatten(),
            layers.Dense(2),
        ]
    )
    batch = regression((6, 6, 2), tasks=1)
    wrapped = maml(model, steps=steps)
    return mk.check_meta_gradient(wrapped, batch, dtype=dtype, verbose=0)


def test_meta_gradient_behind_weights_matches_differences():
    checks = checks_behind_weights(Turned(), "float64", steps=1)
    assert all(check.decided and check.error < 1e-7 for check in checks)


@pytest.mark.slow
@pytest.mark.parametrize(
    "layer",
    [
        lambda: layers.RandomRotation(0.2),
        lambda: layers.RandomZoom(0.3),
        lambda: layers.RandomShear((0.0, 0.2), (0.0, 0.2)),
        lambda: layers.RandomTranslation(0.2, 0.2, fill_mode="wrap"),
        lambda: layers.RandomPerspective(1.0, 0.5),
    ],
)
def test_keras_layers_behind_weights_match_differences(layer):
    # Keras draws their transforms in float32.
    checks = checks_behind_weights(layer(), "float32")
    assert all(check.error < 1e-2 for check in checks if check.decided)
    assert sum(check.decided for check in checks) >= 3


def test_outside_tensorflow_is_untouched():
    before = tf.raw_ops.ImageProjectiveTransformV3
    with exact_projections():
        assert tf.raw_ops.ImageProjectiveTransformV3 is not before
    assert tf.raw_ops.ImageProjectiveTransformV3 is before

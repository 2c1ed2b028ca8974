"""One number among many that is not finite is found, wherever it stands."""

import numpy as np
import pytest
import tensorflow as tf

from maml_keras.backend import finite


def tensors():
    return [
        np.ones([3, 4], "float32"),
        np.ones([2], "float64"),
        np.ones([], "float32"),
        np.ones([5], "float16"),
        np.ones([finite.LARGEST_JOINED + 1], "float32"),
        np.ones([4], "int32"),
    ]


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [None, 0, 1, 2, 3, 4])
def test_one_number_is_enough(place, value, compiled):
    made = tensors()
    if place is not None:
        made[place].reshape(-1)[-1:] = value
    check = tf.function(finite.all_finite, jit_compile=True)
    found = (check if compiled else finite.all_finite)([tf.constant(t) for t in made])
    assert bool(found) == (place is None)


def test_an_axis_of_any_length():
    check = tf.function(
        lambda t: finite.all_finite([t]), input_signature=[tf.TensorSpec([None, 2])]
    )
    assert bool(check(tf.ones([3, 2])))
    assert not bool(check(tf.fill([3, 2], np.nan)))


def test_the_largest_finite_numbers_are_finite():
    assert bool(finite.all_finite([tf.fill([9], tf.float32.max)]))


def test_nothing_is_finite():
    assert bool(finite.all_finite([]))
    assert bool(finite.all_finite([tf.constant([1])]))


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("place", [None, 0, 1, 2, 3, 4])
def test_a_sum_is_zero_or_not_a_number(place, compiled):
    made = tensors()
    made[0][:] = np.finfo("float32").max  # The sum of these would be infinite.
    if place is not None:
        made[place].reshape(-1)[-1:] = -np.inf
    check = tf.function(finite.zero_if_finite, jit_compile=compiled)
    found = float(check([tf.constant(t) for t in made]))
    assert found == 0.0 if place is None else np.isnan(found)


def test_the_sum_of_nothing_is_zero():
    assert float(finite.zero_if_finite([])) == 0.0
    assert float(finite.zero_if_finite([tf.constant([1])])) == 0.0


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("place", [None, 0, 1, 2, 3, 4])
def test_a_norm_needs_every_number_to_be_finite(place, compiled):
    made = tensors()
    if place is not None:
        made[place].reshape(-1)[-1:] = np.nan
    check = tf.function(finite.norm_is_finite, jit_compile=compiled)
    assert bool(check([tf.constant(t) for t in made])) == (place is None)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
def test_a_norm_that_overflows_is_not_finite(dtype, compiled):
    check = tf.function(finite.norm_is_finite, jit_compile=compiled)
    largest = float(np.sqrt(float(tf.as_dtype(dtype).max) / 7))
    number = tf.constant(0.9 * largest, dtype)
    fits = [tf.fill([3], number), -tf.fill([3], number)]
    assert bool(check(fits))
    assert np.isfinite(float(tf.reduce_sum(tf.square(tf.concat(fits, 0)))))
    above = [*fits, tf.constant([3 * largest], dtype)]
    assert not bool(check(above))
    assert np.isinf(float(tf.reduce_sum(tf.square(tf.concat(above, 0)))))


def test_a_norm_of_an_axis_of_any_length():
    check = tf.function(
        lambda t: finite.norm_is_finite([t]), input_signature=[tf.TensorSpec([None, 2])]
    )
    assert bool(check(tf.ones([3, 2])))
    assert not bool(check(tf.fill([3, 2], 1e25)))


def test_float16_has_only_to_be_finite():
    assert bool(finite.norm_is_finite([tf.constant([6e4], tf.float16)]))


def test_nothing_has_a_finite_norm():
    assert bool(finite.norm_is_finite([]))
    assert bool(finite.norm_is_finite([tf.constant([1])]))

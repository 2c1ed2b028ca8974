"""Convolutions and max-pooling with a task axis give the results of Keras."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from maml_keras.backend.task_axis import with_task_axis

LENGTHS = {1: [7], 2: [6, 5], 3: [4, 5, 4]}
SETTINGS = {
    "plain": {},
    "strided": {"strides": 2},
    "same": {"strides": 2, "padding": "same"},
    "dilated": {"dilation_rate": 2},
    "dilated_same": {"dilation_rate": 2, "padding": "same"},
}


def normal(*shape, seed=0):
    return tf.constant(np.random.default_rng(seed).normal(size=shape))


def results(function, *arguments):
    """The value, and its first and second derivatives in all arguments."""
    with tf.GradientTape() as outer:
        outer.watch(arguments)
        with tf.GradientTape() as tape:
            tape.watch(arguments)
            value = function(*arguments)
            loss = tf.reduce_sum(tf.sin(value))
        first = tape.gradient(loss, arguments)
        mixed = tf.add_n([tf.reduce_sum(tf.sin(3.0 * g)) for g in first])
    return value, first, outer.gradient(mixed, arguments)


def assert_equal(got, expected):
    for a, b in zip(tf.nest.flatten(got), tf.nest.flatten(expected), strict=True):
        assert a.shape == b.shape
        largest = np.abs(b).max(initial=1.0)
        np.testing.assert_allclose(a, b, atol=1e-12 * largest)  # float64


def compare(function, *arguments, reference=None):
    """`function` in the scope gives what `reference` gives outside of it."""
    expected = results(reference or function, *arguments)
    with with_task_axis():
        got = results(function, *arguments)
    assert_equal(got, expected)


def inputs(rank, channels=4):
    return normal(2, *LENGTHS[rank], channels)


def kernels(rank, *rest, size=2):
    return normal(*[size] * rank, *rest, seed=1)


# The forms beside Keras's code -------------------------------------------------------


def all_of(rank, settings, usual):
    """A case for every change of the code, or a slow one."""
    marks = [] if (rank, settings) in usual else pytest.mark.slow
    return pytest.param(rank, settings, marks=marks, id=f"{rank}-{settings}")


@pytest.mark.parametrize(
    ("rank", "settings"),
    [
        all_of(rank, settings, [(2, "same"), (1, "dilated_same"), (3, "plain")])
        for rank, settings in itertools.product(LENGTHS, SETTINGS)
    ],
)
def test_convolution(rank, settings):
    def conv(x, k):
        return keras.ops.conv(x, k, **SETTINGS[settings])

    compare(conv, inputs(rank), kernels(rank, 4, 3))


@pytest.mark.parametrize(
    ("rank", "settings"),
    [
        all_of(rank, settings, [(2, "same")])
        for rank, settings in itertools.product([1, 2], SETTINGS)
    ],
)
def test_depthwise_and_separable_convolution(rank, settings):
    def depthwise(x, k):
        return keras.ops.depthwise_conv(x, k, **SETTINGS[settings])

    def separable(x, k, p):
        return keras.ops.separable_conv(x, k, p, **SETTINGS[settings])

    x, k, p = inputs(rank), kernels(rank, 4, 2), kernels(rank, 8, 3, size=1)
    compare(depthwise, x, k)
    compare(separable, x, k, p)


TRANSPOSED = {
    "plain": {},
    "longer": {"strides": 3},  # Longer than the kernel.
    "same": {"strides": 2, "padding": "same"},
    "longer_same": {"strides": 3, "padding": "same"},
    "padded": {"strides": 2, "output_padding": 1},
    "padded_same": {"strides": 2, "padding": "same", "output_padding": 1},
}


@pytest.mark.parametrize(
    ("rank", "settings"),
    [
        all_of(rank, settings, [(2, "padded_same"), (1, "longer"), (3, "same")])
        for rank, settings in itertools.product(LENGTHS, TRANSPOSED)
    ],
)
def test_transposed_convolution(rank, settings):
    def conv(x, k):
        return keras.ops.conv_transpose(x, k, **{"strides": 1, **TRANSPOSED[settings]})

    compare(conv, inputs(rank), kernels(rank, 3, 4))


@pytest.mark.parametrize(
    ("rank", "padding"),
    [
        all_of(rank, padding, [(2, "same")])
        for rank, padding in itertools.product(LENGTHS, ["valid", "same"])
    ],
)
def test_dilated_transposed_convolution(rank, padding):
    # TensorFlow has no such kernel on processors. Zeros between the entries of a kernel
    # spread it as a dilation does.
    def conv(x, k):
        return keras.ops.conv_transpose(x, k, 1, padding, dilation_rate=2)

    def spread(x, k):
        for axis in range(rank):
            first, last = tf.split(k, 2, axis=axis)
            k = tf.concat([first, tf.zeros_like(first), last], axis=axis)
        return keras.ops.conv_transpose(x, k, 1, padding)

    compare(conv, inputs(rank), kernels(rank, 3, 4), reference=spread)


@pytest.mark.parametrize("rank", [1, 2, pytest.param(3, marks=pytest.mark.slow)])
def test_groups_are_convolutions_beside_each_other(rank):
    def conv(x, k):
        return keras.ops.conv(x, k, 2, "same")

    def beside(x, k):
        pairs = zip(tf.split(x, 2, axis=-1), tf.split(k, 2, axis=-1))
        return tf.concat([conv(*pair) for pair in pairs], axis=-1)

    compare(conv, inputs(rank), kernels(rank, 2, 6), reference=beside)


@pytest.mark.parametrize("rank", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_channels_first(rank):
    # TensorFlow has no kernels for these on processors.
    functions = {
        "conv": kernels(rank, 4, 3),
        "depthwise_conv": kernels(rank, 4, 2),
        "conv_transpose": kernels(rank, 3, 4),
    }
    x = tf.experimental.numpy.moveaxis(inputs(rank), -1, 1)

    def moved(function, *arguments):
        x, *others = arguments
        y = function(tf.experimental.numpy.moveaxis(x, 1, -1), *others)
        return tf.experimental.numpy.moveaxis(y, -1, 1)

    for name, kernel in functions.items():

        def first(x, k, name=name):
            return getattr(keras.ops, name)(
                x, k, strides=2, data_format="channels_first"
            )

        def last(x, k, name=name):
            return moved(lambda x: getattr(keras.ops, name)(x, k, strides=2), x)

        compare(first, x, kernel, reference=last)

    def pool(x):
        return keras.ops.max_pool(x, 2, data_format="channels_first")

    compare(pool, x, reference=lambda x: moved(lambda y: keras.ops.max_pool(y, 2), x))


POOLINGS = {"plain": (2, 2), "overlapping": (3, 1), "longer": (2, 3)}


@pytest.mark.parametrize(
    ("rank", "settings"),
    [
        all_of(rank, settings, [(2, "plain"), (3, "overlapping")])
        for rank, settings in itertools.product(LENGTHS, POOLINGS)
    ],
)
@pytest.mark.parametrize("padding", ["valid", "same"])
def test_max_pooling(rank, settings, padding):
    size, strides = POOLINGS[settings]

    def pool(x):
        return keras.ops.max_pool(x, size, strides, padding)

    def by_axes(x):
        """Two poolings, because TensorFlow has no three-dimensional one in float64."""
        n, depth, *plane, c = x.shape
        x = pool(tf.reshape(x, [n * depth, *plane, c]))
        x = tf.reshape(x, [n, depth, -1, c])
        x = keras.ops.max_pool(x, [size, 1], [strides, 1], padding)
        return tf.reshape(x, [n, x.shape[1], *pool(tf.ones([1, *plane, c])).shape[1:]])

    compare(pool, inputs(rank), reference=by_axes if rank == 3 else None)


def test_of_equal_entries_the_first_has_the_derivative_as_in_keras():
    x = tf.constant(np.random.default_rng(0).integers(0, 2, [2, 6, 6, 3]) * 1.0)
    compare(lambda x: keras.ops.max_pool(x, 3, 2, "same"), x)


def test_lengths_that_are_unknown_keep_the_code_of_keras():
    @tf.function(input_signature=[tf.TensorSpec([None, None, 2], tf.float64)])
    def conv(x):
        return keras.ops.conv(x, kernels(1, 2, 3))

    x = normal(2, 5, 2)
    expected = keras.ops.conv(x, kernels(1, 2, 3))
    with with_task_axis():
        assert_equal(conv(x), expected)


def test_the_number_of_examples_may_be_unknown():
    k = {name: kernels(1, 2, 2) for name in ("conv", "conv_transpose")}
    pool = {"max_pool": 2}
    for name, argument in {**k, **pool}.items():

        @tf.function(input_signature=[tf.TensorSpec([None, 5, 2], tf.float64)])
        def graph(x, name=name, argument=argument):
            return getattr(keras.ops, name)(x, argument)

        for examples in (0, 3):
            x = normal(examples, 5, 2)
            expected = getattr(keras.ops, name)(x, argument)
            with with_task_axis():
                assert_equal(graph(x), expected)


# All tasks at once -------------------------------------------------------------------

NETWORKS = {
    "conv": (lambda x, k: keras.ops.conv(x, k, 2, "same"), (4, 3)),
    "grouped": (lambda x, k: keras.ops.conv(x, k), (2, 4)),
    "depthwise": (lambda x, k: keras.ops.depthwise_conv(x, k), (4, 2)),
    "transposed": (lambda x, k: keras.ops.conv_transpose(x, k, 2), (3, 4)),
    "pooled": (lambda x, k: keras.ops.max_pool(keras.ops.conv(x, k), 2), (4, 3)),
}


def adapted_loss(function, kernel, x):
    """The loss behind one inner step of the kernel, and its gradient."""
    with tf.GradientTape() as outer:
        outer.watch(kernel)
        with tf.GradientTape() as tape:
            tape.watch(kernel)
            loss = tf.reduce_mean(tf.sin(function(x, kernel)))
        after = kernel - 0.3 * tape.gradient(loss, kernel)
        loss = tf.reduce_mean(tf.cos(function(x, after)))
    return loss, outer.gradient(loss, kernel)


@pytest.mark.parametrize(
    ("rank", "name", "xla"),
    [
        pytest.param(
            rank, name, xla, marks=[] if usual else pytest.mark.slow, id=f"{name}{rank}"
        )
        for rank, (name, xla) in itertools.product(
            LENGTHS, [("conv", True), *((n, False) for n in NETWORKS)]
        )
        if not (name == "depthwise" and rank == 3)
        for usual in [(rank, name, xla) == (2, "pooled", False)]
    ],
)
def test_all_tasks_at_once_give_the_numbers_of_one_by_one(rank, name, xla):
    function, channels = NETWORKS[name]
    kernel = kernels(rank, *channels)
    tasks = normal(3, 2, *LENGTHS[rank], 4)

    def one(x):
        return adapted_loss(function, kernel, x)

    @tf.function(jit_compile=xla)
    def at_once(tasks):
        return tf.vectorized_map(one, tasks, fallback_to_while_loop=False)

    with with_task_axis():
        got = at_once(tasks)
        by_itself = [one(x) for x in tasks]
    expected = [one(x) for x in tasks] if name != "grouped" else by_itself
    assert_equal(got, [tf.stack(values) for values in zip(*expected)])

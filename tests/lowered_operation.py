"""Compares an operation with what the export writes in its place."""

import numpy as np
import tensorflow as tf

from maml_keras.export.lowering import lowered


def draw(*shape, seed=0):
    """Random float32 numbers."""
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def written(function, specs):
    """The function written again, and how often each operation was replaced."""
    original = tf.function(function, input_signature=specs, autograph=False)
    original = original.get_concrete_function()
    replaced = {}

    def call(*arguments):
        found = lowered(original, list(arguments))
        replaced.update(found.replaced)
        return found.outputs

    again = tf.function(call, input_signature=specs, autograph=False)
    return original, again.get_concrete_function(), replaced


def assert_same(function, *arrays, replaces, fixed=(), rtol=1e-5):
    """Checks that a function gives the same when it is written again.

    Args:
        function: a function of tensors that calls the operation.
        arrays: its arguments. The size of the first axis is unknown.
        replaces: names of the operations that must be gone.
        fixed: indices of arguments whose sizes are all known.
        rtol: float, the tolerance, relative to the largest number.
    """
    specs = [
        tf.TensorSpec([None, *a.shape[1:]] if i not in fixed else a.shape, a.dtype)
        for i, a in enumerate(map(np.asarray, arrays))
    ]
    original, again, replaced = written(function, specs)
    assert set(replaces) <= set(replaced)
    left = {node.op for node in again.graph.as_graph_def().node}
    assert not left & set(replaces)
    tensors = [tf.constant(a) for a in arrays]
    expected = tf.nest.flatten(original(*tensors))
    for a, b in zip(again(*tensors), expected, strict=True):
        scale = max(float(np.abs(b).max(initial=0)), 1e-6)
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * scale)


def gradient(function, of):
    """A function that returns the derivative of `sum(weights * function)`.

    The weights differ from place to place, so a derivative at a wrong place shows.

    Args:
        function: of tensors.
        of: indices of the arguments in which to differentiate.
    """

    def derivative(*tensors):
        with tf.GradientTape() as tape:
            tape.watch(tensors)
            y = function(*tensors)
        shape = tf.shape(y)
        numbers = tf.range(tf.reduce_prod(shape))
        upstream = tf.sin(tf.cast(tf.reshape(numbers, shape), tf.float32)) + 0.3
        upstream = tf.ensure_shape(upstream, y.shape)
        return tape.gradient(y, [tensors[i] for i in of], output_gradients=upstream)

    return derivative

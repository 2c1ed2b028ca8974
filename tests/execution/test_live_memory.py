"""Live bytes of graphs whose memory can be counted by hand."""

import pytest
import tensorflow as tf

from maml_keras.execution.live_memory import live_bytes

FLOATS = 1000
ONE = 4 * FLOATS  # bytes of a vector


def graph_of(function, *shapes):
    specs = [tf.TensorSpec(shape) for shape in shapes or [[FLOATS]]]
    return tf.function(function, autograph=False).get_concrete_function(*specs).graph


def turned(x):
    """A copy of `x`, by an operation that never writes in place."""
    return tf.reverse(x, [0])


@pytest.mark.parametrize(
    ("function", "vectors"),
    [
        # A vector is made while the vector before is read.
        (lambda x: turned(turned(turned(x))), 2),
        # The first vector is needed until the end.
        (lambda x: (lambda first: first + turned(turned(first)))(turned(x)), 3),
        # A reshape is no memory, and an exponential of a dying vector is none either.
        (lambda x: tf.exp(tf.reshape(turned(x), [10, -1])), 1),
        (lambda x: tf.identity_n([turned(x), turned(x)])[1], 2),
        # But the exponential of the input cannot destroy the input.
        (lambda x: tf.exp(x), 1),
        # A result is held to the end, whenever it was made.
        (lambda x: (turned(x), turned(turned(x))), 3),
        # Nothing needs this product, so it is never computed.
        (lambda x: (turned(x), tf.tensordot(x, x, 0))[0], 1),
    ],
)
def test_tensors_live_until_their_last_use(function, vectors):
    assert live_bytes(graph_of(function), iterations=1) == vectors * ONE


def test_forward_activations_live_until_their_derivative():
    # d/dx of sin(sin(sin(x))) needs x and the two inner sines. At the peak there are
    # also a cosine and the upstream derivative.
    def derivative(x, depth):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = x
            for _ in range(depth):
                y = tf.sin(y)
        return tape.gradient(y, x)

    few, many = (
        live_bytes(graph_of(lambda x, n=n: derivative(x, n)), iterations=1)
        for n in (5, 9)
    )
    assert many - few == 4 * ONE


def test_calls_count_what_lives_inside():
    inner = tf.function(lambda x: turned(x) + turned(turned(x)), autograph=False)
    plain = live_bytes(graph_of(inner.python_function), iterations=1)
    called = graph_of(lambda x: turned(inner(x)))
    assert live_bytes(called, iterations=1) == plain


@pytest.mark.parametrize("iterations", [1, 7])
def test_a_differentiated_loop_keeps_a_tensor_for_each_iteration(iterations):
    def derivative(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            _, y = tf.while_loop(
                lambda i, y: i < iterations,
                lambda i, y: (i + 1, tf.sin(y)),
                (tf.constant(0), x),
            )
        return tape.gradient(y, x)

    found = live_bytes(graph_of(derivative), iterations=iterations)
    assert iterations * ONE <= found <= (iterations + 4) * ONE + 64

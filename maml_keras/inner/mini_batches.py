"""Parts of a support set, one for each inner step."""

from __future__ import annotations

from typing import Any

import tensorflow as tf


def positions(step: Any, examples: Any, *, size: int, seed: int) -> Any:
    """The examples that an inner step sees.

    The support set is shuffled, dealt out in parts of `size` examples, and shuffled
    again once all examples were dealt: within a pass each example comes once, and a
    part may lie across two passes. The shuffles depend on `seed` and on the number of
    examples alone, so training, adaptation and an export deal the same parts.

    Args:
        step: int tensor, counted from 0.
        examples: int tensor, the size of the support set.
        size: int, examples of a part; all examples if there are fewer.
        seed: int.

    Returns:
        An int tensor `[min(size, examples)]`.

    >>> two = [positions(step, 4, size=2, seed=0).numpy().tolist() for step in (0, 1)]
    >>> sorted(two[0] + two[1])
    [0, 1, 2, 3]
    """
    examples = tf.cast(examples, tf.int32)
    count = tf.minimum(tf.constant(size), examples)
    dealt = tf.cast(step, tf.int32) * count + tf.range(count)
    first = dealt[0] // examples
    # A part has at most as many examples as a pass, so it lies in one or two passes.
    orders = tf.stack(
        [_shuffled(tf.zeros([examples], tf.bool), seed, first + i) for i in (0, 1)]
    )
    return tf.gather_nd(
        orders, tf.stack([dealt // examples - first, dealt % examples], axis=1)
    )


def steps_of(examples: Any, *, size: int, epochs: int) -> Any:
    """How many parts a number of passes over a support set is dealt out in.

    `ceil(epochs n / min(size, n))`

    Args:
        examples: int or int tensor n.
        size: int, examples of a part; all examples if there are fewer.
        epochs: int, passes.

    >>> steps_of(25, size=10, epochs=2), steps_of(4, size=10, epochs=2)
    (5, 2)
    """
    if isinstance(examples, int):
        return -(-epochs * examples // min(size, examples))
    return -(-epochs * examples // tf.minimum(size, examples))


def present(support: tuple[Any, Any, Any]) -> Any:
    """How many examples of a support set are no padding, an int or an int tensor."""
    x, _, weight = support
    if weight is None:
        first = tf.nest.flatten(x)[0]
        return tf.shape(first)[0] if first.shape[0] is None else first.shape[0]
    return tf.math.count_nonzero(weight, dtype=tf.int32)


def part(support: tuple[Any, Any, Any], step: Any, *, size: int, seed: int) -> Any:
    """The part of a support set that an inner step sees.

    Padding is never dealt: a padded support set is dealt out as the same set without
    padding, if the padding is at its end. If a set has fewer examples than `size`, the
    rest of its parts is padding.

    Args:
        support: `(x, y, weight)`, nests of tensors `[examples, ...]`; `weight` may be
            None.
        step: int tensor, counted from 0.
        size: int, examples of a part.
        seed: int.
    """
    x, y, weight = support
    if weight is None:
        chosen = positions(step, present(support), size=size, seed=seed)
        there = None
    else:
        chosen, there = _of_present(step, weight, size, seed)
        there *= tf.gather(weight, chosen)
    rows = tf.nest.map_structure(lambda t: tf.gather(t, chosen), (x, y))
    return (*rows, there)


def _of_present(step: Any, weight: Any, size: int, seed: int) -> tuple[Any, Any]:
    """Positions of a part, and 1 for each that is no padding.

    The number of positions is known before the number of examples is, so that tasks of
    different sizes run side by side.
    """
    absent = tf.equal(weight, 0)
    examples = present((weight, None, weight))
    padded = weight.shape[0]
    width = (
        tf.minimum(size, tf.shape(weight)[0]) if padded is None else min(size, padded)
    )
    count = tf.minimum(width, examples)
    dealt = tf.cast(step, tf.int32) * count + tf.range(width)
    first = dealt[0] // examples
    orders = tf.stack([_shuffled(absent, seed, first + i) for i in (0, 1)])
    # Positions after the first `count` are of a part that is not full.
    passed = tf.minimum(dealt // examples - first, 1)
    chosen = tf.gather_nd(orders, tf.stack([passed, dealt % examples], axis=1))
    return chosen, tf.cast(tf.range(width) < count, weight.dtype)


def _shuffled(absent: Any, seed: int, number: Any) -> Any:
    """A random order of the examples that are there, then the others.

    The order is the same on every device and under XLA, and padding at the end does not
    change it.

    Args:
        absent: bool tensor `[examples]`.
        seed: int.
        number: int tensor, which of the orders of this seed.
    """
    # An order of its own for each task: TensorFlow's stateless generators have no form
    # with a task axis for different seeds, and integer operations do.
    key = _mixed(tf.constant(seed % 2**32, tf.uint32)) + tf.cast(number, tf.uint32)
    places = tf.cast(tf.range(tf.shape(absent)[0]), tf.uint32)
    bits = _mixed(_mixed(key) + places)
    # 24 bits are exact in float32, in [0, 1).
    noise = tf.cast(_right(bits, 8), tf.float32) / 2.0**24
    return tf.argsort(noise + tf.cast(absent, tf.float32), stable=True)


def _mixed(bits: Any) -> Any:
    """A hash of uint32 numbers: each bit of the input flips half of the result's.

    The constants are those of `lowbias32`, https://github.com/skeeto/hash-prospector.
    """
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        bits = tf.bitwise.bitwise_xor(bits, _right(bits, shift))
        bits *= tf.constant(factor, tf.uint32)
    return tf.bitwise.bitwise_xor(bits, _right(bits, 16))


def _right(bits: Any, shift: int) -> Any:
    return tf.bitwise.right_shift(bits, tf.constant(shift, tf.uint32))

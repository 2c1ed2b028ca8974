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
    orders = tf.stack([_shuffled(examples, seed, first + i) for i in (0, 1)])
    return tf.gather_nd(
        orders, tf.stack([dealt // examples - first, dealt % examples], axis=1)
    )


def part(support: tuple[Any, Any, Any], step: Any, *, size: int, seed: int) -> Any:
    """The part of a support set that an inner step sees.

    Args:
        support: `(x, y, weight)`, nests of tensors `[examples, ...]`; `weight` is None.
        step: int tensor, counted from 0.
        size: int, examples of a part.
        seed: int.

    Raises:
        ValueError: if the examples have weights, which padding has, too.
    """
    x, y, weight = support
    if weight is not None:
        raise ValueError(
            "`InnerLoop(batch_size=...)` needs support sets without padding and "
            "without weights, because a part could hold nothing but padding. Received: "
            "support weights. Leave out `batch_size`, or draw support sets of one size."
        )
    examples = tf.shape(tf.nest.flatten(x)[0])[0]
    chosen = positions(step, examples, size=size, seed=seed)
    rows = tf.nest.map_structure(lambda t: tf.gather(t, chosen), (x, y))
    return (*rows, None)


def _shuffled(examples: Any, seed: int, number: Any) -> Any:
    """A random order of the examples, the same on every device and under XLA."""
    noise = tf.random.stateless_uniform(
        [examples], tf.stack([tf.constant(seed), number]), alg="philox"
    )
    return tf.argsort(noise, stable=True)

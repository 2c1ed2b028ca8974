"""Options of input pipelines, so that iterators end without delay."""

from __future__ import annotations

from typing import Any

import tensorflow as tf


def untuned(dataset: Any) -> Any:
    """The same dataset without TensorFlow's tuner.

    The tuner wakes up ever more rarely, finally once a minute, and closing an iterator
    may have to wait for the next wake-up. Then `fit`, `evaluate` or a loop would be
    finished but not return.

    Without the tuner, `AUTOTUNE` means a fixed number of parallel calls: one for each
    core, up to 16. Datasets that are made from the returned dataset have no tuner
    either, unless `with_options` enables the tuner again.

    Args:
        dataset: a `tf.data.Dataset`.

    Returns:
        A `tf.data.Dataset` with the same elements.

    >>> untuned(tf.data.Dataset.range(3)).options().autotune.enabled
    False
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)

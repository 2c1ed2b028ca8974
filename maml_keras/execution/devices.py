"""The devices on which TensorFlow computes."""

from __future__ import annotations

import tensorflow as tf


def has_gpu() -> bool:
    """True if TensorFlow computes on a GPU.

    A GPU that was hidden by `CUDA_VISIBLE_DEVICES` or by
    `tf.config.set_visible_devices` does not count.
    """
    return bool(tf.config.list_logical_devices("GPU"))

"""Hides announcements of TensorFlow's own functions from its log."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

import tensorflow as tf


@contextlib.contextmanager
def without_announcements() -> Iterator[None]:
    """A scope in which TensorFlow logs only warnings and errors.

    In notebooks, TensorFlow also logs `INFO`. It would announce the temporary folder of
    an export, which no longer exists a moment later.
    """
    logger = tf.get_logger()
    level = logger.level
    logger.setLevel(max(level, logging.WARNING))
    try:
        yield
    finally:
        logger.setLevel(level)

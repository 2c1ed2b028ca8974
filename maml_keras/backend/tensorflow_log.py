"""TensorFlow's log, without what its own functions announce."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

import tensorflow as tf


@contextlib.contextmanager
def without_announcements() -> Iterator[None]:
    """A scope in which TensorFlow logs warnings and errors, and nothing below them.

    In notebooks TensorFlow logs `INFO`, too. It would announce the temporary folder in
    which an export is written, and that folder is gone a moment later.
    """
    logger = tf.get_logger()
    level = logger.level
    logger.setLevel(max(level, logging.WARNING))
    try:
        yield
    finally:
        logger.setLevel(level)

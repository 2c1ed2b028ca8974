"""Hides messages of TensorFlow's own functions from its log."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator

import tensorflow as tf


@contextlib.contextmanager
def hidden(below: int) -> Iterator[None]:
    """A scope in which TensorFlow logs nothing below a level, from this thread.

    A filter of the thread, and not the level of the logger, because other threads may
    open and close such scopes at the same time.

    Args:
        below: int, the lowest level that is still logged, such as `logging.WARNING`.
    """
    here = threading.get_ident()

    def passes(record: logging.LogRecord) -> bool:
        return record.thread != here or record.levelno >= below

    logger = tf.get_logger()
    logger.addFilter(passes)
    try:
        yield
    finally:
        logger.removeFilter(passes)


def without_announcements() -> contextlib.AbstractContextManager[None]:
    """A scope in which TensorFlow logs only warnings and errors.

    In notebooks, TensorFlow also logs `INFO`. It would announce the temporary folder of
    an export, which no longer exists a moment later.
    """
    return hidden(below=logging.WARNING)


def without_messages() -> contextlib.AbstractContextManager[None]:
    """A scope in which TensorFlow logs nothing.

    An operation without a form with a task axis is logged as an error, although
    another task map takes over, or an error of ours says more.
    """
    return hidden(below=logging.CRITICAL + 1)

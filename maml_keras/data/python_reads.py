"""Python functions inside a data pipeline, which let the interpreter end."""

from __future__ import annotations

import atexit
import threading
import time
from collections.abc import Callable
from typing import Any

import tensorflow as tf

# At its end the interpreter waits until no call has begun for this many seconds ..
QUIET = 0.1
# .. but not longer than this.
LONGEST = 10.0


class _Calls:
    """Calls that run now, and when the last one began or ended."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.running, self.last, self.closing = 0, 0.0, False

    def note(self, change: int) -> None:
        """Counts a call that begins (1) or ends (-1)."""
        with self._lock:
            self.running += change
            self.last = time.monotonic()

    def end(self) -> None:
        """Refuses further calls, and waits for those that run."""
        self.closing = True
        deadline = time.monotonic() + LONGEST
        while time.monotonic() < deadline:
            idle = time.monotonic() - self.last
            if not self.running and idle > QUIET:
                return
            time.sleep(0.01)


_CALLS = _Calls()
# TensorFlow reads ahead, in threads of its own. A thread that wants to call Python
# while the interpreter ends waits for ever, and the interpreter waits for the thread.
# Nobody takes batches at the end, so the reading ahead stops by itself once its buffers
# are full: the interpreter ends after that.
atexit.register(_CALLS.end)


def read(function: Callable[[Any], Any], rows: Any, kind: tf.DType) -> Any:
    """What a Python function returns for row numbers, as an operation of a pipeline.

    Args:
        function: of an integer array; returns an array.
        rows: integer tensor.
        kind: the type of what the function returns.

    >>> read(lambda rows: rows * 2.0, tf.constant([1, 2]), tf.float64).numpy()
    array([2., 4.])
    """

    def counted(rows: Any) -> Any:
        if _CALLS.closing:
            raise RuntimeError("The interpreter ends, so nothing is read any more.")
        _CALLS.note(1)
        try:
            return function(rows)
        finally:
            _CALLS.note(-1)

    return tf.numpy_function(counted, [rows], kind, stateful=False)

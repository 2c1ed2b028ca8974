"""Training time without what is done beside it."""

from __future__ import annotations

import time
from typing import Any

import keras


class Stopwatch(keras.callbacks.Callback):
    """Adds `seconds` to the logs of an epoch: the time trained up to its end.

    The first call, which compiles, is left out, and so is what other callbacks do
    between epochs: put it before them.

    Args:
        already: float, seconds trained before, in a run that goes on.
    """

    def __init__(self, *, already: float = 0.0) -> None:
        super().__init__()
        self.seconds = already
        self._since: float | None = None
        self._compiled = False

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Starts, unless there is something to compile first."""
        self._since = time.perf_counter() if self._compiled else None

    def on_train_batch_end(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Starts after the first call."""
        if not self._compiled:
            self._compiled = True
            self._since = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Stops, and writes the sum."""
        if self._since is not None:
            self.seconds += time.perf_counter() - self._since
        if logs is not None:
            logs["seconds"] = self.seconds

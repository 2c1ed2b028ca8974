"""What each epoch logged, and the training time it had taken, in a file."""

from __future__ import annotations

import json
import pathlib
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


class EpochLog(keras.callbacks.Callback):
    """Writes the logs of each epoch as a line of JSON; put it after what adds to them.

    A run that goes on from a backup writes the epochs after the backup anew.

    Args:
        path: the file. It is read again by `read`.
    """

    def __init__(self, path: str | pathlib.Path) -> None:
        super().__init__()
        self.path = pathlib.Path(path)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Appends a line."""
        numbers = {name: float(value) for name, value in (logs or {}).items()}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"epoch": epoch, **numbers}) + "\n")


def read(path: str | pathlib.Path) -> list[dict[str, float]]:
    """The logs of all epochs in order; of one that was run twice, the last."""
    path = pathlib.Path(path)
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines()
    rows = {row["epoch"]: row for row in map(json.loads, lines)}
    return [rows[epoch] for epoch in sorted(rows)]

"""What each epoch logged, and the training time it had taken, in a file."""

from __future__ import annotations

import json
import pathlib
import time
from collections.abc import Iterable, Mapping
from typing import Any

import keras


class Stopwatch(keras.callbacks.Callback):
    """Adds `seconds` to the logs of an epoch: the time trained up to its end.

    The first call, which compiles, is left out, and so is what other callbacks do
    between epochs: put it before them.

    Args:
        before: what a run that goes on has logged, a mapping for each epoch with its
            `epoch` and `seconds`; those from the epoch on where it goes on are lost.
    """

    def __init__(self, before: Iterable[Mapping[str, float]] = ()) -> None:
        super().__init__()
        self.seconds = 0.0
        self._before = list(before)
        self._since: float | None = None
        self._compiled = False
        self._compiling = 0

    @property
    def steps(self) -> int:
        """Steps that the optimizer has taken; 0 if nothing was trained."""
        return 0 if self.model is None else int(self.model.optimizer.iterations)

    @property
    def steps_a_second(self) -> float:
        """Speed since the first call; 0 if there was no other."""
        elapsed = self.elapsed()
        return (self.steps - self._compiling) / elapsed if elapsed > 0.0 else 0.0

    def elapsed(self) -> float:
        """Seconds of training up to now."""
        running = 0.0 if self._since is None else time.perf_counter() - self._since
        return self.seconds + running

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Starts, unless there is something to compile first."""
        if not self._compiled:
            kept = [row["seconds"] for row in self._before if row["epoch"] < epoch]
            self.seconds = max(kept, default=0.0)
        self._since = time.perf_counter() if self._compiled else None

    def on_train_batch_end(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Starts after the first call."""
        if not self._compiled:
            self._compiled = True
            self._compiling = self.steps
            self._since = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Stops, and writes the sum."""
        self.seconds = self.elapsed()
        self._since = None
        if logs is not None:
            logs["seconds"] = self.seconds


class EpochLog(keras.callbacks.Callback):
    """Writes the logs of each epoch as a line of JSON; put it after what adds to them.

    A run that goes on from a backup writes the epochs after the backup anew, and one
    that starts over all of them: what the file says of these is dropped.

    Args:
        path: the file. It is read again by `read`.
    """

    def __init__(self, path: str | pathlib.Path) -> None:
        super().__init__()
        self.path = pathlib.Path(path)
        self._begun = False

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """The next epoch is the first of this call."""
        self._begun = False

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Drops what an interrupted run wrote of the epochs that come now."""
        if not self._begun and self.path.exists():
            kept = [row for row in read(self.path) if row["epoch"] < epoch]
            beside = self.path.with_name(self.path.name + ".new")
            beside.write_text("".join(map(_line, kept)), encoding="utf-8")
            beside.replace(self.path)
        self._begun = True

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Appends a line."""
        numbers = {name: float(value) for name, value in (logs or {}).items()}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(_line({"epoch": epoch, **numbers}))


def _line(row: Mapping[str, float]) -> str:
    return json.dumps(row) + "\n"


def read(path: str | pathlib.Path) -> list[dict[str, float]]:
    """The logs of all epochs in order; of one that was run twice, the last.

    A last line that was cut is left out.
    """
    path = pathlib.Path(path)
    if not path.exists():
        return []
    *whole, _ = path.read_text(encoding="utf-8").split("\n")
    rows = {row["epoch"]: row for row in map(json.loads, whole)}
    return [rows[epoch] for epoch in sorted(rows)]

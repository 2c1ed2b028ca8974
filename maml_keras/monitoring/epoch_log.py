"""A file with the logs of each epoch, and the training time that they state."""

from __future__ import annotations

import json
import logging
import pathlib
import time
from collections.abc import Iterable, Mapping
from typing import Any

import keras

from maml_keras.backend.documents import writing

logger = logging.getLogger(__name__)


class Stopwatch(keras.callbacks.Callback):
    """Adds `seconds` to the logs of an epoch: the training time up to its end.

    The first call, which compiles, does not count. Nor does the time of other callbacks
    between epochs, if they come after this callback.

    Args:
        before: for a resumed run, its earlier logs: a mapping for each epoch with
            `epoch` and `seconds`. Epochs that are trained again are ignored.
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
        """Steps that the optimizer has taken; 0 before training."""
        return 0 if self.model is None else int(self.model.optimizer.iterations.numpy())

    @property
    def steps_a_second(self) -> float:
        """Steps a second since the first call; 0 before the second call."""
        elapsed = self.elapsed()
        return (self.steps - self._compiling) / elapsed if elapsed > 0.0 else 0.0

    def elapsed(self) -> float:
        """Seconds of training up to now."""
        running = 0.0 if self._since is None else time.perf_counter() - self._since
        return self.seconds + running

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Starts the clock, unless the first call must still compile."""
        if not self._compiled:
            kept = [
                row.get("seconds", 0.0) for row in self._before if row["epoch"] < epoch
            ]
            self.seconds = max(kept, default=0.0)
        self._since = time.perf_counter() if self._compiled else None

    def on_train_batch_end(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Starts the clock after the first call."""
        if not self._compiled:
            self._compiled = True
            self._compiling = self.steps
            self._since = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Stops the clock and writes the sum into the logs."""
        self.seconds = self.elapsed()
        self._since = None
        if logs is not None:
            logs["seconds"] = self.seconds


class EpochLog(keras.callbacks.Callback):
    """Writes the logs of each epoch as a line of JSON.

    List this callback after those that add to the logs. A run that resumes from a
    backup replaces the lines of the epochs after the backup; a run that starts over
    replaces all lines.

    Args:
        path: the file, which `read` reads.
    """

    def __init__(self, path: str | pathlib.Path) -> None:
        super().__init__()
        self.path = pathlib.Path(path)
        self._begun = False

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Prepares for the first epoch of this `fit`."""
        self._begun = False

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Drops the lines of an interrupted run for the epochs to be trained now."""
        if not self._begun and self.path.exists():
            kept = [row for row in read(self.path) if row["epoch"] < epoch]
            unfinished = self.path.with_name(self.path.name + ".new")
            unfinished.write_text("".join(map(_line, kept)), encoding="utf-8")
            unfinished.replace(self.path)
        self._begun = True

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Appends the line of this epoch."""
        numbers = {name: float(value) for name, value in (logs or {}).items()}
        with writing(self.path), self.path.open("a", encoding="utf-8") as file:
            file.write(_line({"epoch": epoch, **numbers}))


def _line(row: Mapping[str, float]) -> str:
    return json.dumps(row) + "\n"


def read(path: str | pathlib.Path) -> list[dict[str, float]]:
    """The logs of all epochs in order; for a repeated epoch, its last logs.

    An incomplete last line is left out. A damaged line is left out, too, with a warning
    in the log that names the file and the line.
    """
    path = pathlib.Path(path)
    if not path.exists():
        return []
    rows: dict[float, dict[str, float]] = {}
    *whole, _ = path.read_text(encoding="utf-8", errors="replace").split("\n")
    for number, line in enumerate(whole, start=1):
        try:
            row = json.loads(line)
            # NaN is a number of a log: a metric may be undefined.
            rows[int(row["epoch"])] = {name: float(v) for name, v in row.items()}
            rows[int(row["epoch"])]["epoch"] = int(row["epoch"])
        except (ValueError, TypeError, KeyError, AttributeError):
            logger.warning(
                "%s: line %d is damaged and left out: %.60r", path, number, line
            )
    return [rows[epoch] for epoch in sorted(rows)]

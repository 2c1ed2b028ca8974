"""A progress bar for work that may take long."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping

import keras

# Users who wait longer want to see progress.
SECONDS = 2.0


class Bar:
    """A `keras.utils.Progbar` that appears once the work has taken two seconds.

    Shorter work shows nothing.

    Args:
        total: int, the amount of work; None if unknown.
        unit: str, the name of one unit of work, in the singular.
        verbose: 0 for silence, else a bar.
        clock: function that returns seconds, like `time.monotonic`.

    >>> seconds = iter([0.0, 1.0, 3.0, 4.0])
    >>> bar = Bar(3, unit="image", clock=lambda: next(seconds))
    >>> bar.update(1), bar.shown
    (None, False)
    """

    def __init__(
        self,
        total: int | None,
        *,
        unit: str,
        verbose: str | int = "auto",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.shown = False
        self._clock = clock
        self._started = clock()
        self._bar = keras.utils.Progbar(
            total, unit_name=unit, verbose=1 if verbose else 0
        )

    def update(self, done: int, values: Mapping[str, float] | None = None) -> None:
        """Shows the amount of work that is done.

        Args:
            done: int, units of work done so far.
            values: numbers by name; the bar shows the latest, not their mean.
        """
        values = values or {}
        self._bar.stateful_metrics.update(values)
        if not self.shown and self._clock() - self._started >= SECONDS:
            self.shown = True
            if self._bar.verbose and sys.stdout.isatty():
                # Clear the line, because text on it, such as the bar of `fit`, may be
                # longer than this bar.
                sys.stdout.write("\r\x1b[K")
        if self.shown:
            self._bar.update(done, list(values.items()))

    def expect(self, total: int) -> None:
        """Corrects the total amount of work."""
        self._bar.target = total

    def finish(self, done: int) -> None:
        """Ends the line if less than the total was done, or the total is unknown."""
        if self.shown and self._bar.target != done:
            self._bar.target = done or self._bar.target
            self._bar.update(done, finalize=True)

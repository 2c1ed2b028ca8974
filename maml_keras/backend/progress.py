"""A progress bar for work that may turn out to be long."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping

import keras

# Whoever waits longer than that wonders whether it still works.
SECONDS = 2.0


class Bar:
    """A `keras.utils.Progbar` that shows itself once the work has taken two seconds.

    Shorter work stays quiet.

    Args:
        total: int, how much there is to do; None if nobody knows.
        unit: str, what is counted, in the singular.
        verbose: 0 for silence, else a bar.
        clock: seconds, as those of `time.monotonic`.

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
        """So much is done.

        Args:
            done: int, of the total.
            values: numbers by name, shown as they are.
        """
        values = values or {}
        self._bar.stateful_metrics.update(values)
        if not self.shown and self._clock() - self._started >= SECONDS:
            self.shown = True
            if self._bar.verbose and sys.stdout.isatty():
                # What stands on the line, as `fit`'s own bar does, may be longer.
                sys.stdout.write("\r\x1b[K")
        if self.shown:
            self._bar.update(done, list(values.items()))

    def expect(self, total: int) -> None:
        """There is so much to do, as turned out."""
        self._bar.target = total

    def finish(self, done: int) -> None:
        """Ends the line, where less was done than the total, or nobody knew that."""
        if self.shown and self._bar.target != done:
            self._bar.target = done or self._bar.target
            self._bar.update(done, finalize=True)

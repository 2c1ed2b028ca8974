"""Limits extra work in training to a share of the training time."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator


class Pace:
    """Decides whether the training time so far allows one more piece of extra work.

    `spent + cost of the last piece < share * trained`. The first piece of each kind is
    free, because it compiles.

    Args:
        share: float, the share of the training time for extra work.
        clock: returns seconds, as `time.perf_counter` does.

    >>> seconds = iter([0, 100, 100, 109, 109, 111, 111, 113])
    >>> pace = Pace(0.02, clock=lambda: next(seconds))
    >>> with pace.training():
    ...     pass  # 100 s.
    >>> with pace.spending("look"):
    ...     pass  # 9 s, which are free.
    >>> pace.affords("look")
    True
    >>> with pace.spending("look"):
    ...     pass  # 2 s, which is the whole share.
    >>> pace.affords("look")
    False
    """

    def __init__(
        self, share: float, *, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self.share = share
        self.trained = 0.0
        self.spent = 0.0
        self._clock = clock
        self._costs: dict[str, float] = {}
        self._since: float | None = None

    def start(self) -> None:
        """Starts or continues the training time; does nothing if it is running."""
        if self._since is None:
            self._since = self._clock()

    def stop(self) -> None:
        """Pauses the training time."""
        if self._since is not None:
            self.trained += self._clock() - self._since
            self._since = None

    @contextlib.contextmanager
    def training(self) -> Iterator[None]:
        """A context whose time counts as training."""
        self.start()
        yield
        self.stop()

    @contextlib.contextmanager
    def spending(self, kind: str) -> Iterator[None]:
        """A context whose time counts as one piece of extra work of a kind."""
        started = self._clock()
        yield
        cost = self._clock() - started
        if kind in self._costs:
            self.spent += cost
        # The first piece compiles, so its time does not predict the second's.
        self._costs[kind] = cost if kind in self._costs else 0.0

    def affords(self, kind: str) -> bool:
        """Whether one more piece of a kind stays within the share."""
        return self.spent + self._costs.get(kind, 0.0) < self.share * self.trained

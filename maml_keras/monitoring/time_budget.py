"""How often something may be done beside training, so that it costs little of it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator


class Pace:
    """Says whether the training time so far affords one more of something.

    `spent + cost of the last one < share * trained`. The first of each kind is free,
    since it compiles, and so is what has to be done whatever it costs.

    Args:
        share: float, of the training time.
        clock: seconds, as those of `time.perf_counter`.

    >>> seconds = iter([0, 100, 100, 109, 109, 111, 111, 113])
    >>> pace = Pace(0.02, clock=lambda: next(seconds))
    >>> with pace.training():
    ...     pass  # 100 s.
    >>> with pace.spending("look"):
    ...     pass  # 9 s, which are free.
    >>> pace.affords("look")
    True
    >>> with pace.spending("look"):
    ...     pass  # 2 s, which is all there is.
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
        """Training begins, or goes on; nothing if it is under way."""
        if self._since is None:
            self._since = self._clock()

    def stop(self) -> None:
        """Training pauses."""
        if self._since is not None:
            self.trained += self._clock() - self._since
            self._since = None

    @contextlib.contextmanager
    def training(self) -> Iterator[None]:
        """Around what counts as training."""
        self.start()
        yield
        self.stop()

    @contextlib.contextmanager
    def spending(self, kind: str) -> Iterator[None]:
        """Around one of a kind."""
        started = self._clock()
        yield
        cost = self._clock() - started
        if kind in self._costs:
            self.spent += cost
        # What the first one took says nothing of the second.
        self._costs[kind] = cost if kind in self._costs else 0.0

    def affords(self, kind: str) -> bool:
        """Whether one more of a kind keeps to the share."""
        return self.spent + self._costs.get(kind, 0.0) < self.share * self.trained

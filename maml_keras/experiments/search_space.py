"""The settings that a search tries, as text: `inner_rate=0.01:1:log steps=1,3,5`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from maml_keras.experiments import changes

EDGE = 0.05
FORMS = (
    "one value, values with commas, LOW:HIGH, or LOW:HIGH:log, such as "
    "'inner_rate=0.01:1:log steps=1,3,5'"
)


@dataclass(frozen=True)
class Choices:
    """Some values of a setting.

    Attributes:
        values: the values; a single one is tried in every trial.
    """

    values: tuple[Any, ...]

    def add_to(self, hyperparameters: Any, name: str) -> None:
        """Registers the setting with KerasTuner."""
        if len(self.values) == 1:
            hyperparameters.Fixed(name, self.values[0])
        else:
            hyperparameters.Choice(name, list(self.values))

    def edge_of(self, value: Any) -> str | None:
        """None: a list of values has no ends to widen."""
        return None


@dataclass(frozen=True)
class Interval:
    """All values of a setting between two ends, both included.

    Attributes:
        low: number.
        high: number.
        log: bool, whether each factor is as likely as the next, in place of each
            difference.
    """

    low: float
    high: float
    log: bool = False

    def add_to(self, hyperparameters: Any, name: str) -> None:
        """Registers the setting with KerasTuner."""
        add = hyperparameters.Int if self.is_whole else hyperparameters.Float
        sampling = "log" if self.log else "linear"
        add(name, self.low, self.high, sampling=sampling)

    @property
    def is_whole(self) -> bool:
        """Whether only whole numbers are tried."""
        return isinstance(self.low, int)

    def edge_of(self, value: float) -> str | None:
        """The end that a value is near, in words; None if it is not.

        A value within the last twentieth of the interval counts as near.

        >>> Interval(0.01, 1.0).edge_of(0.99)
        'highest value 1'
        """
        share = self.share(value)
        if share <= EDGE:
            return f"lowest value {self.low:g}"
        return f"highest value {self.high:g}" if share >= 1 - EDGE else None

    def share(self, value: float) -> float:
        """Where a value lies, from 0 at the low end to 1 at the high end.

        >>> round(Interval(0.01, 1.0, log=True).share(0.1), 6)
        0.5
        """
        form = math.log if self.log else float
        low, high = form(self.low), form(self.high)
        return (form(value) - low) / (high - low)


Space = dict[str, Choices | Interval]


def text_of(search: str | Mapping[str, str | Sequence[Any]]) -> str:
    """A search as text.

    Args:
        search: the text itself, or for each setting a text or a list of values.

    >>> text_of({"inner_rate": "0.01:1:log", "steps": [1, 3, 5]})
    'inner_rate=0.01:1:log steps=1,3,5'
    """
    if isinstance(search, str):
        return search
    return " ".join(
        f"{name}={v if isinstance(v, str) else ','.join(map(changes.text_of, v))}"
        for name, v in search.items()
    )


def read(text: str, algorithm: str) -> Space:
    """The settings to search, and where.

    Args:
        text: str, such as `"inner_rate=0.01:1:log steps=1,3,5"`.
        algorithm: str, the name of a recipe.

    Raises:
        ValueError: if the text has another form, a name is unknown, a value has
            another type, or nothing varies.

    >>> read("inner_rate=0.01:1:log steps=1,3", "maml")["steps"]
    Choices(values=(1, 3))
    """
    space = {
        name: _values(name, values, algorithm)
        for name, values in changes.pairs(text, "search").items()
    }
    if all(isinstance(s, Choices) and len(s.values) == 1 for s in space.values()):
        raise ValueError(
            f"`search` must give several values of a setting. Received: {text!r}. "
            f"Forms: {FORMS}."
        )
    return space


def _values(name: str, text: str, algorithm: str) -> Choices | Interval:
    low, *rest = text.split(":")
    if not rest:
        found = [_checked(name, value, algorithm) for value in text.split(",")]
        if len(set(found)) < len(found):
            raise _wrong(name, text)
        return Choices(tuple(found))
    high, *log = rest
    ends = [_checked(name, value, algorithm) for value in (low, high)]
    numbers = all(type(end) in (int, float) for end in ends)
    if not numbers or log not in ([], ["log"]) or not ends[0] < ends[1]:
        raise _wrong(name, text)
    if log and ends[0] <= 0:
        raise ValueError(
            f"A search by factors needs ends above 0. Received: {name}={text}. Leave "
            "`:log` out."
        )
    return Interval(ends[0], ends[1], bool(log))


def _checked(name: str, text: str, algorithm: str) -> Any:
    return changes.checked({name: changes.value_of(text)}, algorithm)[name]


def _wrong(name: str, text: str) -> ValueError:
    return ValueError(
        f"The values of `{name}` must be {FORMS}. Received: {name}={text}."
    )

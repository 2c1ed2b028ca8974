"""Runs training steps one by one, and checks each batch before and after its step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol

import tensorflow as tf

# Takes a batch; returns scalar logs, and whether the step was taken.
Step = Callable[[Any], tuple[Any, Any]]


class Checks(Protocol):
    """Checks of a batch before its step."""

    def __call__(self, batch: Any) -> None:
        """Raises a `ValueError` if the batch must not be trained on."""

    def values_fit(self, batch: Any) -> bool:
        """False if the values of a batch, or of a stack of batches, do not fit."""


def step_by_step(
    step: Step,
    steps: int,
    *,
    look: Callable[[Any], None],
    mend: Callable[[Any], Any],
) -> Callable[[Iterator[Any]], Any]:
    """A Keras train function that reads each batch before it runs its step.

    If a step is not taken, its batch is still at hand. A step runs only after its batch
    has come, so no counter runs ahead.

    Args:
        step: the compiled step.
        steps: int, batches of a call.
        look: looks at a batch before its step.
        mend: called with a batch whose step was not taken; returns the logs or raises.

    Returns:
        A function of an iterator that returns the last step's logs, and raises
        `StopIteration` when there is nothing left.
    """

    def function(iterator: Iterator[Any]) -> Any:
        logs = None
        for _ in range(steps):
            batch = _next(iterator)
            if batch is None:
                break
            look(batch)
            logs, taken = step(batch)
            if not taken:
                logs = mend(batch)
        if logs is None:
            raise StopIteration
        return logs

    return function


def _next(iterator: Iterator[Any]) -> Any:
    """The next batch, or None at the end. Parts that Keras leaves out are None."""
    batch = next(iterator, None)
    if isinstance(batch, tuple) and any(map(_is_left_out, batch)):
        batch = tuple(None if _is_left_out(part) else part for part in batch)
    return batch


def _is_left_out(part: Any) -> bool:
    return isinstance(part, tf.experimental.Optional)


def checked(function: Any, look: Callable[[Any], None]) -> Any:
    """A Keras predict function that looks at its batches.

    Args:
        function: takes a list of batches.
        look: looks at each of them.
    """

    def predict(batches: list[Any]) -> Any:
        for batch in batches:
            look(batch)
        return function(batches)

    return predict

"""Tasks whose numbers are not finite, and how a meta-step with such tasks goes on."""

from __future__ import annotations

import abc
from collections.abc import Callable, Sequence
from typing import NamedTuple

import keras

from maml_keras.backend.configured import Configured

KEPT = "The weights, the optimizer and the counters are as before that step."


class BadTask(NamedTuple):
    """A task whose loss, adapted weights or meta-gradient are not finite.

    Attributes:
        position: int, its place in its batch.
        episode: int, its number in the stream: how many episodes were seen before it.
        what: str, names the first number that is not finite, with the inner step and
            the variable.
        remedy: str, what to do.
    """

    position: int
    episode: int
    what: str
    remedy: str

    def __str__(self) -> str:
        return (
            f"episode {self.episode:,} (task {self.position} of its batch): {self.what}"
        )


class BadTaskError(ValueError):
    """A meta-step was not taken, because numbers in it are not finite.

    Attributes:
        bad_tasks: list of `BadTask`; empty if every task by itself is finite.

    >>> bad = BadTask(position=1, episode=41, what="the query loss is nan", remedy="")
    >>> BadTaskError("one bad task", [bad]).bad_tasks[0].episode
    41
    """

    def __init__(self, message: str, bad_tasks: Sequence[BadTask] = ()) -> None:
        super().__init__(message)
        self.bad_tasks = list(bad_tasks)

    @classmethod
    def of_tasks(cls, found: Sequence[BadTask], count: int, more: str) -> BadTaskError:
        """The error that names the first of the bad tasks of a batch.

        Args:
            found: the bad tasks.
            count: int, tasks of the batch.
            more: str, another way out.
        """
        return cls(
            f"A meta-step needs finite numbers. Received: {left_out(found, count)} "
            f"{KEPT} {found[0].remedy} {more}",
            found,
        )

    @classmethod
    def of_mean(cls, found: Sequence[BadTask], count: int) -> BadTaskError:
        """The error for a mean that is not finite although each task is finite."""
        return cls(
            "A meta-step needs finite numbers. Received: a mean over "
            f"{count - len(found)} tasks, or a norm of the mean meta-gradient, that is "
            "not finite, although each task is: the numbers are too large for a sum. "
            f"{KEPT} Scale inputs and targets to size one.",
            found,
        )


class BadTaskPolicy(Configured, abc.ABC):
    """Decides how training goes on after a meta-step with a bad task.

    >>> class FirstTwoTasks(BadTaskPolicy):
    ...     def good(self, found, count):
    ...         return [0, 1]
    >>> FirstTwoTasks().good([], 4)
    [0, 1]
    """

    # Whether the logs of an epoch say how many tasks were left out.
    counts = True

    @abc.abstractmethod
    def good(self, found: Sequence[BadTask], count: int) -> list[int]:
        """The positions of the tasks on which the step is repeated.

        Args:
            found: the bad tasks of a batch, at least one.
            count: int, tasks of the batch.

        Raises:
            BadTaskError: if the step must not be taken.
        """

    def __repr__(self) -> str:
        given = ", ".join(f"{k}={v!r}" for k, v in self.get_config().items())
        return f"{type(self).__name__}({given})"


@keras.saving.register_keras_serializable(package="maml_keras")
class Stop(BadTaskPolicy):
    """Raises an error; the model stays as before the step."""

    counts = False

    def good(self, found: Sequence[BadTask], count: int) -> list[int]:
        raise BadTaskError.of_tasks(
            found, count, "`MAML(bad_tasks='skip')` leaves such tasks out."
        )


@keras.saving.register_keras_serializable(package="maml_keras")
class Skip(BadTaskPolicy):
    """Takes the mean over the other tasks; raises if no task is left.

    >>> Skip()
    Skip()
    >>> bad = BadTask(position=1, episode=41, what="", remedy="")
    >>> Skip().good([bad], 4)
    [0, 2, 3]
    """

    def good(self, found: Sequence[BadTask], count: int) -> list[int]:
        bad = {task.position for task in found}
        rest = [position for position in range(count) if position not in bad]
        if not rest:
            raise BadTaskError.of_tasks(found, count, "No task is left to train on.")
        return rest


POLICIES: dict[str, Callable[[], BadTaskPolicy]] = {"stop": Stop, "skip": Skip}


def get(identifier: str | BadTaskPolicy) -> BadTaskPolicy:
    """The policy with the given name.

    Args:
        identifier: `"stop"`, `"skip"`, or a policy, which is returned.

    Raises:
        ValueError: if no policy has the name.
    """
    if isinstance(identifier, BadTaskPolicy):
        return identifier
    if identifier not in POLICIES:
        raise ValueError(
            f"`bad_tasks` must be one of {sorted(POLICIES)}, or a BadTaskPolicy. "
            f"Received: bad_tasks={identifier!r}."
        )
    return POLICIES[identifier]()


def left_out(found: Sequence[BadTask], count: int) -> str:
    """One sentence that names the first of the bad tasks of a batch.

    >>> left_out([BadTask(1, 41, "the query loss is nan", "")], 4)
    '1 of 4 tasks is bad: episode 41 (task 1 of its batch): the query loss is nan.'
    """
    are = "is" if len(found) == 1 else "are"
    first = "" if len(found) == 1 else "first "
    return f"{len(found)} of {count} tasks {are} bad: {first}{found[0]}."

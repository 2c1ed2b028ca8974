"""Class numbers that mean the same class in every task, also through wrappers."""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

# Tasks on which a wrapper is checked.
CHECKED = 8


class ClassNumbers(NamedTuple):
    """The tasks of a family, with labels that mean the same class in every task.

    Ordinary training on all classes together, as the baseline `pretrained` does, needs
    such labels: `NWayKShot` numbers the classes of each task again.

    Attributes:
        tasks: a `TaskFamily`; its labels are class numbers in
            `[0, num_classes)`.
        num_classes: int, the number of classes of all tasks.

    >>> import maml_keras as mk
    >>> pool = mk.data.from_arrays(np.zeros([6, 2, 2, 1]), [0, 0, 1, 1, 2, 2])
    >>> tasks = mk.data.NWayKShot(pool, ways=2, shots=1, queries=1)
    >>> tasks.class_numbers().num_classes
    3
    """

    tasks: Any
    num_classes: int


def of_wrapper(family: Any) -> ClassNumbers:
    """The class numbers of a family that holds one other family as an attribute.

    A copy of the wrapper holds the inner family with its class numbers. The copy must
    draw the same examples, and its labels must name the classes of each task one to
    one: a wrapper that changes labels would make wrong ones.

    Args:
        family: a `TaskFamily`.

    Raises:
        ValueError: if the class numbers cannot be known; the message says what to do.
    """
    name = type(family).__name__
    inner = {
        attribute: value
        for attribute, value in vars(family).items()
        if callable(getattr(value, "class_numbers", None))
    }
    if len(inner) != 1:
        raise _unknown(name, f"a family that holds {len(inner)} families as attributes")
    [(attribute, within)] = inner.items()
    numbers = within.class_numbers()
    other = copy.copy(family)
    setattr(other, attribute, numbers.tasks)
    try:
        same = _names_classes_of(family, other, numbers.num_classes)
    except Exception as error:
        came = f"{type(error).__name__} from the class numbers of `self.{attribute}`"
        raise _unknown(name, came) from error
    if not same:
        raise _unknown(name, f"a family that changes the labels of `self.{attribute}`")
    return ClassNumbers(other, numbers.num_classes)


def _unknown(name: str, came: str) -> ValueError:
    return ValueError(
        f"`{name}` must tell which classes its tasks have, because labels mean other "
        f"classes in each task. Received: {came}. Give the class a method "
        "`class_numbers` that returns `mk.data.ClassNumbers(tasks, num_classes)`. A "
        "family that leaves out some labels of another returns "
        "`self.tasks.class_numbers()`. Where labels already mean the same in every "
        "task, it returns `mk.data.ClassNumbers(self, num_classes)`."
    )


def _names_classes_of(family: Any, other: Any, count: int) -> bool:
    """Whether `other` draws the examples of `family` and only names classes anew."""
    seed = tf.constant([0, 1], tf.int64)
    (task, query_y), (named, named_y) = (
        f.fill(f.plan(seed, CHECKED)) for f in (family, other)
    )
    for key in ("support_x", "query_x"):
        ours, theirs = tf.nest.flatten(task[key]), tf.nest.flatten(named[key])
        if not all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True)):
            return False
    local = np.concatenate([task["support_y"], query_y], axis=1)
    known = np.concatenate([named["support_y"], named_y], axis=1)
    if local.shape != known.shape or known.dtype.kind not in "iu":
        return False
    return all(map(_is_renaming, local, known)) and known.max() < count


def _is_renaming(local: Any, known: Any) -> bool:
    """Whether both label the same places of a task, and name its classes one to one."""
    places = local >= 0
    if not np.array_equal(places, known >= 0):
        return False
    pairs = np.unique(np.stack([local[places], known[places]]), axis=1)
    return all(len(np.unique(row)) == len(row) for row in pairs)


def holds_classes(family: Any) -> bool:
    """Whether a family names its classes, or holds a family that does, at any depth.

    Where some families of a kind have classes and others have none, `has_classes` of
    the family tells.
    """
    told = getattr(family, "has_classes", None)
    if told is not None:
        return bool(told)
    named = getattr(type(family), "class_numbers", None)
    if named is None:
        return False
    if named.__qualname__ != "TaskFamily.class_numbers":
        return True
    return any(map(holds_classes, _leaves(list(vars(family).values()))))


def _leaves(values: list[Any]) -> list[Any]:
    found: list[Any] = []
    for value in values:
        nested = isinstance(value, (list, tuple))
        found += _leaves(list(value)) if nested else [value]
    return found

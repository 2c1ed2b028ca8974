"""The pools from which a family draws."""

from __future__ import annotations

from typing import Any

from maml_keras.data.family import TaskFamily
from maml_keras.data.pool import Pool


def pools_of(family: Any) -> list[Pool]:
    """The pools of a family and of those that it holds, each once.

    Args:
        family: a `TaskFamily`.

    >>> from maml_keras.data import Mixture, NWayKShot, Sinusoid, from_arrays
    >>> pool = from_arrays([0.0, 1.0, 2.0, 3.0], [0, 0, 1, 1])
    >>> tasks = NWayKShot(pool, ways=2, shots=1, queries=1)
    >>> pools_of(Mixture([tasks, tasks])) == [pool], pools_of(Sinusoid())
    (True, [])
    """
    found: list[Pool] = []
    for value in vars(family).values():
        members = value if isinstance(value, (list, tuple)) else [value]
        for member in members:
            if isinstance(member, Pool):
                found.append(member)
            elif isinstance(member, TaskFamily):
                found += pools_of(member)
    return list({id(pool): pool for pool in found}.values())

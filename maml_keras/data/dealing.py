"""Deals named units, such as classes or tasks, to training, validation and test."""

import difflib
import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

Part = int | float | Sequence[str] | None


def assign(
    unit_of: Sequence[str], parts: dict[str, Part], *, seed: int, by: str
) -> dict[str, set[str]]:
    """The units of each part.

    Units are dealt in the order of `sha256(seed, name)`, so the result depends on the
    seed and the names only. Listed names are dealt first, then counts and fractions,
    then the remainder.

    Args:
        unit_of: the unit of each member, in any order and number.
        parts: for `"train"`, `"validation"` and `"test"` a count, a fraction, a list
            of names, or None for the remainder.
        seed: int.
        by: str, what a unit is, for messages.

    Raises:
        ValueError: if parts overlap or need too many units, a name is unknown, or
            train or test gets no unit.

    >>> parts = {"train": 2, "validation": 0, "test": ["b"]}
    >>> sorted(assign(["a", "b", "c", "a"], parts, seed=0, by="class")["train"])
    ['a', 'c']
    """
    units = sorted(set(unit_of))
    assigned = _assign(units, parts, seed, by)
    for name in ("train", "test"):
        if not assigned[name]:
            raise ValueError(
                f"`{name}` must get at least one {by}. Received: {name}="
                f"{parts[name]!r} of {len(units)}. Raise this part, or lower "
                "the other parts. Only `validation` may be 0."
            )
    return assigned


def _assign(
    units: list[str], parts: dict[str, Part], seed: int, by: str
) -> dict[str, set[str]]:
    listed = {n: _listed(n, p, units, by) for n, p in parts.items() if _is_list(p)}
    taken: dict[str, str] = {}
    for name, members in listed.items():
        for unit in members:
            if unit in taken:
                raise ValueError(
                    "`train`, `validation` and `test` must not overlap. Received: "
                    f"{unit!r} in {taken[unit]} and {name}. Remove it from one part."
                )
            taken[unit] = name
    sizes = _sizes({n: p for n, p in parts.items() if n not in listed}, len(units))
    free = sorted(
        (u for u in units if u not in taken), key=lambda u: _order_key(seed, u)
    )
    wanted = sum(size for size in sizes.values() if size is not None)
    if wanted > len(free):
        raise ValueError(
            "`train`, `validation` and `test` must fit the data. Received: "
            f"{wanted} wanted, but {len(free)} of {len(units)} are left when splitting "
            f"by {by}. Lower the parts."
        )
    assigned = {name: set(members) for name, members in listed.items()}
    for name, size in sizes.items():
        if size is not None:
            assigned[name], free = set(free[:size]), free[size:]
    for name, size in sizes.items():
        if size is None:
            assigned[name] = set(free)
    return assigned


def _is_list(part: Any) -> bool:
    return isinstance(part, (list, tuple, set, frozenset, np.ndarray))


def _listed(name: str, part: Any, units: list[str], by: str) -> list[str]:
    members = [str(unit) for unit in part]
    for unit in members:
        if unit not in units:
            near = difflib.get_close_matches(unit, units, n=3, cutoff=0.5)
            hint = f"Did you mean {near}?" if near else f"There are {units[:5]}, ..."
            raise ValueError(
                f"`{name}` must list names of a {by}. Received: {unit!r}. {hint}"
            )
    if len(set(members)) != len(members):
        twice = next(unit for unit in members if members.count(unit) > 1)
        raise ValueError(
            f"`{name}` must list each name once. Received: {twice!r} more than once. "
            "Remove the repetition."
        )
    return members


def _sizes(parts: dict[str, Any], total: int) -> dict[str, int | None]:
    """Number of units of each unlisted part; None is the remainder."""
    sizes: dict[str, int | None] = {}
    passed = 0.0
    for name, part in parts.items():
        if part is None:
            sizes[name] = None
        elif isinstance(part, (float, np.floating)) and 0 <= part <= 1:
            # Differences of rounded running sums, so that 0.6, 0.2 and 0.2 use all
            # classes.
            before, passed = round(passed * total), passed + float(part)
            sizes[name] = round(passed * total) - before
        elif (
            isinstance(part, (int, np.integer))
            and not isinstance(part, bool)
            and part >= 0
        ):
            sizes[name] = int(part)
        else:
            raise ValueError(
                f"`{name}` must be a count, a fraction in [0, 1], a list of names or "
                f"None. Received: {part!r}. Pass e.g. {name}=0.2."
            )
    if list(sizes.values()).count(None) > 1:
        rest = [name for name, size in sizes.items() if size is None]
        raise ValueError(
            "At most one of `train`, `validation` and `test` may be None, which means "
            f"the remainder. Received: None for {rest}. Give one of them a count."
        )
    return sizes


def _order_key(seed: int, unit: str) -> bytes:
    return hashlib.sha256(f"{seed}\0{unit}".encode()).digest()

"""The table from operations to what replaces them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Entry = Callable[..., Any]
"""`f(node, *inputs)` returns the operation's outputs: a value, or a list of values.
Inputs are tensors, or arrays where they are known."""

TABLE: dict[str, Entry] = {}


def lowers(*operations: str) -> Callable[[Entry], Entry]:
    """Enters a function into the table.

    Args:
        operations: names of the TensorFlow operations that the function replaces.
    """

    def enter(function: Entry) -> Entry:
        TABLE.update(dict.fromkeys(operations, function))
        return function

    return enter

"""Text from files, made harmless for a terminal."""

from __future__ import annotations

import unicodedata
from typing import Any

# Control and format characters, which can move the cursor, change colours, reverse
# text or retitle a window; half characters; line and paragraph separators.
HIDDEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}


def printable(text: str) -> str:
    r"""The text with each control character but newline and tab as its escape.

    >>> printable("red \x1b[31m")
    'red \\x1b[31m'
    """
    return "".join(
        c.encode("unicode_escape").decode("ascii")
        if unicodedata.category(c) in HIDDEN and c not in "\n\t"
        else c
        for c in text
    )


def all_printable(value: Any) -> Any:
    """Nested dicts and lists with every text and name made printable.

    >>> all_printable({"title": ["a\\x07", 1]})
    {'title': ['a\\\\x07', 1]}
    """
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, dict):
        return {all_printable(k): all_printable(v) for k, v in value.items()}
    if isinstance(value, list):
        return [all_printable(entry) for entry in value]
    return value

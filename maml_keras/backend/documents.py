"""Reads JSON and TOML files of results; every error names the file."""

from __future__ import annotations

import contextlib
import json
import math
import pathlib
import re
import sys
import zipfile
from collections.abc import Iterator
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

WHOLE = (int,)
NUMBER = (int, float)
TEXT = (str,)
NAMES = {
    int: "a whole number",
    float: "a finite number",
    str: "a text",
    bool: "true or false",
    dict: "a table",
    list: "a list",
}


def read_json(path: str | pathlib.Path) -> Any:
    """The content of a JSON file.

    Raises:
        ValueError: if the file is no JSON, with its name and the place of the fault.
    """
    return _parsed(path, json.loads, "JSON")


def read_toml(path: str | pathlib.Path) -> dict[str, Any]:
    """The content of a TOML file.

    Raises:
        ValueError: if the file is no TOML, with its name and the place of the fault.
    """
    found: dict[str, Any] = _parsed(path, tomllib.loads, "TOML")
    return found


def check(path: str | pathlib.Path, value: Any, kind: Any, name: str = "") -> None:
    """Checks the types in a file; a missing or null entry passes.

    Args:
        path: the file, for the message.
        value: the content of the file, or an entry.
        kind: a tuple of types, `WHOLE`, `NUMBER` or `TEXT` for instance; `[kind]` for a
            list of such values; `{name: kind}` for a table, in which `"*"` stands for
            all names.
        name: str, the name of the entry, for the message.

    Raises:
        ValueError: with the name of the file and the entry, if a type is wrong or a
            number is not finite.

    >>> check("card.json", {"mean": [0.5, None]}, {"mean": [NUMBER]})
    >>> check("card.json", {"mean": [0.5, "x"]}, {"mean": [NUMBER]})
    Traceback (most recent call last):
    ...
    ValueError: card.json must have a finite number as `mean[1]`. Received: 'x'.
    """
    if value is None and name:
        return
    types = (type(kind),) if isinstance(kind, (dict, list)) else kind
    fits = isinstance(value, types) and (type(value) is not bool or bool in types)
    if isinstance(value, float) and not math.isfinite(value):
        fits = False
    if not fits:
        shown = repr(value)
        raise ValueError(
            f"{path} must have {NAMES[types[-1]]} as `{name or 'its content'}`. "
            f"Received: {shown if len(shown) < 60 else shown[:60] + '...'}."
        )
    if isinstance(kind, dict):
        for key, entry in value.items():
            inside = kind.get(key, kind.get("*"))
            if inside is not None:
                check(path, entry, inside, f"{name}.{key}" if name else key)
    elif isinstance(kind, list):
        for index, entry in enumerate(value):
            check(path, entry, kind[0], f"{name}[{index}]")


def reason(error: Exception) -> str:
    """The first line of an error's message, or the kind of the error.

    >>> reason(OSError(28, "No space left on device"))
    '[Errno 28] No space left on device'
    """
    if isinstance(error, zipfile.BadZipFile):
        return "the file is truncated or damaged"
    message = getattr(error, "message", None) or str(error)
    # TensorFlow puts the names of its graph's nodes before a message.
    lines = re.sub(r"\{\{.*?\}\}", "", message).strip().splitlines()
    return lines[0].rstrip(". ") if lines else type(error).__name__


@contextlib.contextmanager
def writing(path: str | pathlib.Path) -> Iterator[None]:
    """Names the file in an error of writing, such as a full disk.

    Raises:
        OSError: in place of an `OSError` that names no file.
    """
    try:
        yield
    except OSError as error:
        if error.filename is not None:
            raise
        raise OSError(f"{path} cannot be written: {reason(error)}.") from error


def _parsed(path: str | pathlib.Path, parse: Any, form: str) -> Any:
    try:
        return parse(pathlib.Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        if error.filename is not None:
            raise
        raise OSError(f"{path} cannot be read: {reason(error)}.") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{path} cannot be read as {form}: {reason(error)}."
        ) from error

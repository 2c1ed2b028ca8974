"""Writes docs/api/index.md: every public name, one line each, with its page.

    python scripts/api_index.py

The names are those of `maml_keras.__all__` and of the `__all__` of every wing.
"""

import importlib
import inspect
import itertools
import pathlib
import re
from types import ModuleType
from typing import Any

import maml_keras as mk

ROOT = pathlib.Path(__file__).parents[1]
PAGES = ROOT / "docs" / "api"
PAGE = PAGES / "index.md"
# The order in which a user meets the wings.
WINGS = [
    "data",
    "models",
    "inner",
    "outer",
    "recipes",
    "evaluation",
    "monitoring",
    "experiments",
    "export",
    "execution",
    "learner",
    "backend",
]
HEAD = """# API

Every public name, by the folder of the library where it lives.
`import maml_keras as mk` gives you the names that begin with `mk.`. Import the others
from their folder, for instance `from maml_keras.learner import Support`. The command
line has [its own page](command_line.md).

<!-- Written by scripts/api_index.py from `__all__` and the docstrings. -->
"""


def names() -> dict[str, dict[str, Any]]:
    """Objects by wing and by the shortest name a user can write."""
    found: dict[str, dict[str, Any]] = {}
    for wing in WINGS:
        public = _public(importlib.import_module(f"maml_keras.{wing}"))
        found[wing] = {_shortest(path, value): value for path, value in public.items()}
    return found


def _public(module: ModuleType) -> dict[str, Any]:
    """The objects in a module's `__all__` by dotted path, also those of its modules."""
    found: dict[str, Any] = {}
    for name in module.__all__:
        value = getattr(module, name)
        if inspect.ismodule(value):
            found |= _public(value)
        else:
            found[f"{module.__name__}.{name}"] = value
    return found


def _shortest(path: str, value: Any) -> str:
    """`mk.SGD` for `maml_keras.inner.SGD`, if that is the same object."""
    *modules, name = path.split(".")
    if name in mk.__all__ and getattr(mk, name) is value:
        return f"mk.{name}"
    if modules[-1] in mk.__all__:
        return f"mk.{modules[-1]}.{name}"
    return path


def entries(page: pathlib.Path) -> list[str]:
    """The dotted names that a page of the API documents."""
    return re.findall(r"^::: (\S+)", page.read_text("utf-8"), re.MULTILINE)


def resolved(path: str) -> Any:
    """The object of a dotted path."""
    parts = path.split(".")
    for end in range(len(parts), 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        for part in parts[end:]:
            found = getattr(found, part)
        return found
    raise ModuleNotFoundError(path)


def first_sentence(value: Any) -> str:
    """The first sentence of a docstring, for the cell of a table."""
    first = (inspect.getdoc(value) or "").split("\n\n")[0]
    return " ".join(first.split()).replace("|", "\\|")


def index() -> str:
    """The page."""
    lines = [HEAD]
    for wing, public in names().items():
        documented = {id(resolved(e)): e for e in entries(PAGES / f"{wing}.md")}
        module = importlib.import_module(f"maml_keras.{wing}")
        lines += [f"## {wing}", "", first_sentence(module), ""]
        lines += ["| name | what it is |", "|---|---|"]
        lines += [
            f"| [`{name}`]({wing}.md#{documented[id(value)]}) "
            f"| {first_sentence(value)} |"
            for name, value in sorted(public.items(), key=_order)
        ]
        lines += ["", f"[Everything about `{wing}`]({wing}.md)", ""]
    return "\n".join(lines).rstrip() + "\n"


def _order(item: tuple[str, Any]) -> tuple[int, str]:
    """Short names first, as a user meets them."""
    return item[0].count("."), item[0].lower()


def missing() -> list[str]:
    """Public names that no page of the API documents."""
    pages = (entries(PAGES / f"{wing}.md") for wing in WINGS)
    shown = {id(resolved(entry)) for entry in itertools.chain(*pages)}
    return [
        name
        for public in names().values()
        for name, value in public.items()
        if id(value) not in shown
    ]


if __name__ == "__main__":
    if missing():
        raise SystemExit(f"Add `::: NAME` to a page of docs/api for: {missing()}")
    PAGE.write_text(index(), encoding="utf-8")

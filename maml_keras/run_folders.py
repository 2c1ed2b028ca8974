"""Folders of runs: new ones have a free name, old ones their own settings."""

from __future__ import annotations

import glob
import itertools
import pathlib
import shlex
from collections.abc import Iterator
from typing import Any

from maml_keras import run_config


def first_free(path: pathlib.Path) -> pathlib.Path:
    """The path itself, or the first of `path-2`, `path-3`, .. that does not exist."""
    return next(p for p in numbered(path) if not p.exists())


def numbered(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """A path, and its numbered likes without end.

    >>> paths = numbered(pathlib.Path("runs/sinusoid"))
    >>> [next(paths).name for _ in range(3)]
    ['sinusoid', 'sinusoid-2', 'sinusoid-3']
    """
    yield path
    for number in itertools.count(2):
        yield path.with_name(f"{path.stem}-{number}{path.suffix}")


def numbers(path: pathlib.Path) -> list[pathlib.Path]:
    """Those of `numbered` that exist, in the order of their numbers."""
    found = {1: path} if path.exists() else {}
    for other in path.parent.glob(f"{glob.escape(path.stem)}-*{path.suffix}"):
        number = other.name.removesuffix(path.suffix).removeprefix(f"{path.stem}-")
        if number.isdecimal() and int(number) > 1:
            found[int(number)] = other
    return [found[number] for number in sorted(found)]


def check(folder: pathlib.Path, config: dict[str, Any], *, resume: bool) -> None:
    """Refuses a folder that is not new, or whose run began with other settings.

    Args:
        folder: where a run is to go, or to go on.
        config: its settings.
        resume: bool, whether it goes on.

    Raises:
        FileExistsError: if it does not, and the folder is not empty.
        FileNotFoundError: if it does, and there is no run.
        ValueError: if that one has other settings.
    """
    if not folder.exists() or not any(folder.iterdir()):
        return
    if not resume:
        raise FileExistsError(
            f"`--out` must be a new folder. Received: {folder}, which is not empty. "
            "Choose another, or go on with an interrupted run by `--resume`."
        )
    if not (folder / run_config.FILE).exists():
        raise FileNotFoundError(
            f"`--resume` needs an interrupted run. Received: {folder}, without "
            f"{run_config.FILE}."
        )
    before = run_config.read(folder)
    config = {"seconds": None, **config}
    changed = {k: before.get(k) for k, v in config.items() if before.get(k) != v}
    if changed:
        raise ValueError(
            f"A run resumes with the settings it began with: {changed}. Received: "
            f"{ {k: config[k] for k in changed} }. Take them all from the run by "
            f"`--config {shlex.quote(str(folder / run_config.FILE))}`."
        )

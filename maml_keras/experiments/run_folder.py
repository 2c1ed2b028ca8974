"""The folder of a run: its name, its `config.toml` and checks before it is used."""

from __future__ import annotations

import glob
import itertools
import pathlib
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

import tomli_w

from maml_keras.backend import documents
from maml_keras.backend.versions import versions
from maml_keras.experiments import run_lock

CONFIG = "config.toml"
# Types of the settings that the library and the program write.
KINDS = {
    "preset": documents.TEXT,
    "algorithm": documents.TEXT,
    "algorithms": [documents.TEXT],
    "changes": documents.TEXT,
    "data_dir": documents.TEXT,
    "search": documents.TEXT,
    "oracle": documents.TEXT,
    "trials": documents.WHOLE,
    "stop_bad": (bool,),
    "iterations": documents.WHOLE,
    "epoch": documents.WHOLE,
    "seed": documents.WHOLE,
    "seeds": documents.WHOLE,
    "steps": documents.WHOLE,
    "tasks": documents.WHOLE,
    "seconds": documents.NUMBER,
    "record": {"command": documents.TEXT, "versions": {}},
}


def write_config(
    folder: str | pathlib.Path,
    settings: Mapping[str, Any],
    *,
    program: str,
    command: str,
) -> pathlib.Path:
    """Writes `config.toml`: the settings, and a record of command and versions.

    A run that continues with the same settings keeps the command that it began with:
    only the first command repeats the whole run.

    Args:
        folder: the run's folder.
        settings: options of the program by name; an option that is None is left out.
        program: str, the command that reads this file, e.g. `"train"`.
        command: str, the command that the user typed.

    Returns:
        The file's path.
    """
    path = pathlib.Path(folder) / CONFIG
    given = {key: value for key, value in settings.items() if value is not None}
    if path.exists():
        begun = read_config(folder)
        before = begun.pop("record", {})
        if begun == given:
            command = before.get("command", command)
    record = {"command": command, "versions": versions()}
    # Written under another name, then renamed: a reader never finds half a file.
    new = path.with_suffix(".new")
    new.write_text(
        f"# `maml-keras {program} --config {CONFIG}` repeats this run.\n"
        + tomli_w.dumps({**given, "record": record}),
        encoding="utf-8",
    )
    new.replace(path)
    return path


def read_config(folder: str | pathlib.Path, *needed: str) -> dict[str, Any]:
    """The settings of a run, and under `record` its command and versions.

    Args:
        folder: the run's folder.
        *needed: names of settings that the file must hold; by default `"preset"`.

    Raises:
        FileNotFoundError: if the folder holds no run.
        ValueError: if the file is damaged, lacks a needed setting, or holds one of
            another type.
    """
    path = pathlib.Path(folder) / CONFIG
    if not path.exists():
        raise FileNotFoundError(
            f"A run must have a {CONFIG}. Received: {folder}, which has none. Make a "
            "run with `maml-keras train PRESET --out FOLDER`. To measure a model of "
            "your own, call `maml_keras.evaluate_episodes` in Python."
        )
    found = documents.read_toml(path)
    documents.check(path, found, KINDS)
    missing = [name for name in needed or ("preset",) if name not in found]
    if missing:
        raise ValueError(
            f"{path} must hold the settings of a run. Received: a file without "
            f"{', '.join(missing)}. Restore the file, or train in a new folder."
        )
    return found


def first_free(path: pathlib.Path) -> pathlib.Path:
    """The first of `path`, `path-2`, `path-3`, ... that does not exist."""
    return next(p for p in numbered(path) if not p.exists())


def numbered(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """The endless sequence `path`, `path-2`, `path-3`, ...

    >>> paths = numbered(pathlib.Path("runs/sinusoid"))
    >>> [next(paths).name for _ in range(3)]
    ['sinusoid', 'sinusoid-2', 'sinusoid-3']
    """
    yield path
    for number in itertools.count(2):
        yield path.with_name(f"{path.stem}-{number}{path.suffix}")


def numbers(path: pathlib.Path) -> list[pathlib.Path]:
    """The paths of `numbered` that exist, in the order of their numbers."""
    found = {1: path} if path.exists() else {}
    for other in path.parent.glob(f"{glob.escape(path.stem)}-*{path.suffix}"):
        number = other.name.removesuffix(path.suffix).removeprefix(f"{path.stem}-")
        if number.isdecimal() and int(number) > 1:
            found[int(number)] = other
    return [found[number] for number in sorted(found)]


def check_folder(folder: pathlib.Path, config: dict[str, Any], *, resume: bool) -> None:
    """Refuses a folder that is not new, or whose run began with other settings.

    Args:
        folder: the folder of a new run, or of a run to resume.
        config: the run's settings.
        resume: bool, whether the run is to be resumed.

    Raises:
        FileExistsError: if `resume` is False and the folder is not empty.
        FileNotFoundError: if `resume` is True and the folder, not empty, has no run.
        ValueError: if the run to be resumed has other settings.
    """
    if not folder.exists() or run_lock.is_empty(folder):
        return
    if not resume:
        raise FileExistsError(
            f"`--out` must be a new folder. Received: {folder}, which is not empty. "
            "Choose another, or continue an interrupted run with `--resume`."
        )
    if not (folder / CONFIG).exists():
        raise FileNotFoundError(
            f"`--resume` needs the folder of an interrupted run. Received: {folder}, "
            f"which has no {CONFIG}. Give the run's folder, or leave out `--resume` "
            "and choose a new one."
        )
    before = read_config(folder)
    config = {"seconds": None, "changes": None, **config}
    changed = {k: before.get(k) for k, v in config.items() if before.get(k) != v}
    if changed:
        raise ValueError(
            f"A run must resume with the settings it began with: {changed}. Received: "
            f"{ {k: config[k] for k in changed} }. To use the run's settings, give "
            f"`--config {shlex.quote(str(folder / CONFIG))}`."
        )

"""The settings of a run, in a file that repeats it."""

from __future__ import annotations

import pathlib
import platform
import sys
from collections.abc import Mapping
from typing import Any

import tomli_w

from maml_keras.export import version

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FILE = "config.toml"


def write(
    folder: str | pathlib.Path,
    settings: Mapping[str, Any],
    *,
    program: str,
    command: str,
) -> pathlib.Path:
    """Writes `config.toml`: the settings, and a record of what they were run with.

    Of a run that goes on with the same settings, the command is the one that it began
    with: it repeats the run, which the one that went on does not.

    Args:
        folder: where to.
        settings: options of the program by name; None for what was not set.
        program: str, the command that takes the file back, e.g. `"train"`.
        command: str, what was typed.

    Returns:
        The file's path.
    """
    path = pathlib.Path(folder) / FILE
    given = {key: value for key, value in settings.items() if value is not None}
    packages = "maml_keras", "tensorflow", "keras"
    versions = {name: version(name) for name in packages}
    versions["python"] = platform.python_version()
    if path.exists():
        begun = read(folder)
        before = begun.pop("record", {})
        if begun == given:
            command = before.get("command", command)
    record = {"command": command, "versions": versions}
    # Written beside it and moved: whoever reads it never finds half.
    new = path.with_suffix(".new")
    new.write_text(
        f"# `maml-keras {program} --config {FILE}` repeats this run.\n"
        + tomli_w.dumps({**given, "record": record}),
        encoding="utf-8",
    )
    new.replace(path)
    return path


def read(folder: str | pathlib.Path) -> dict[str, Any]:
    """The settings of a run, and under `record` what they were run with.

    Raises:
        FileNotFoundError: if the folder holds no run.
    """
    path = pathlib.Path(folder) / FILE
    if not path.exists():
        raise FileNotFoundError(
            f"A run must have a {FILE}. Received: {folder}, which has none. Make a "
            "run with `maml-keras train PRESET --out FOLDER`. A model of yours is "
            "measured in Python, by `maml_keras.evaluate_episodes`."
        )
    return tomllib.loads(path.read_text(encoding="utf-8"))

"""Arguments and options that several commands share."""

from __future__ import annotations

import pathlib
import shlex
import sys
from typing import Annotated

import typer

from maml_keras import experiments

Preset = Annotated[
    str, typer.Argument(help=f"One of: {', '.join(experiments.PRESETS)}.")
]
Run = Annotated[
    pathlib.Path, typer.Argument(help="Folder that `maml-keras train` made.")
]
DataDir = Annotated[
    pathlib.Path | None,
    typer.Option(help="Where TFDS data sets lie.  [default: TFDS's own choice]"),
]
Download = Annotated[
    bool, typer.Option("--download", help="Let TFDS download a missing data set.")
]
Seed = Annotated[int, typer.Option(help="Draws weights and episodes.")]
Steps = Annotated[
    int | None,
    typer.Option(min=0, help="Adaptation steps.  [default: the preset's]"),
]
Tasks = Annotated[int, typer.Option(min=2, help="How many new tasks to evaluate on.")]
Quiet = Annotated[
    bool, typer.Option("--quiet", help="No progress bars; results and errors only.")
]


def text(path: pathlib.Path | None) -> str | None:
    """A path as the library takes it."""
    return None if path is None else str(path)


def command() -> str:
    """What was typed, to be noted with its results."""
    return shlex.join(["maml-keras", *sys.argv[1:]])

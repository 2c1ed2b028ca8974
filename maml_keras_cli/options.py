"""Arguments and options that several commands share."""

from __future__ import annotations

import pathlib
import shlex
import sys
from typing import Annotated

import typer

from maml_keras_cli import names

Preset = Annotated[
    str,
    typer.Argument(
        help="An experiment, such as `sinusoid` or `omniglot_small`; `maml-keras list` "
        "shows them all. Not needed where --config names it.",
        autocompletion=names.presets,
    ),
]
Run = Annotated[
    pathlib.Path, typer.Argument(help="Folder that `maml-keras train` made.")
]
Export = Annotated[
    pathlib.Path,
    typer.Argument(help="Folder of an export, or of a run that holds one."),
]
Iterations = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Length of training, in meta-steps: whole epochs, if longer than one.",
        show_default="the preset's",
    ),
]
Seconds = Annotated[
    float | None,
    typer.Option(
        min=1.0,
        help="Length of training by the clock, in seconds, in place of --iterations; "
        "compilation, looks at validation tasks and backups do not count.",
        show_default="none",
    ),
]
Steps = Annotated[
    int | None,
    typer.Option(
        min=0,
        help="Adaptation to each new task, in gradient steps.",
        show_default="the preset's",
    ),
]
Tasks = Annotated[
    int, typer.Option(min=2, help="Number of new tasks to evaluate on, in tasks.")
]
Seed = Annotated[
    int,
    typer.Option(
        min=0,
        max=2**32 - 1,
        help="Draws weights and training episodes; any whole number of 32 bits.",
    ),
]
DataDir = Annotated[
    pathlib.Path | None,
    typer.Option(
        help="Folder of the TFDS data sets.",
        show_default="TFDS_DATA_DIR, or TFDS's own choice",
    ),
]
Download = Annotated[
    bool,
    typer.Option(
        "--download", help="Let TFDS download a missing data set.", show_default="off"
    ),
]
Quiet = Annotated[
    bool,
    typer.Option(
        "--quiet",
        "-q",
        help="Results and errors only: no progress bars, no warnings.",
        show_default="off",
    ),
]
Verbose = Annotated[
    bool,
    typer.Option(
        "--verbose",
        "-v",
        help="Also what is chosen and why, and the traceback of an error.",
        show_default="off",
    ),
]


def text(path: pathlib.Path | None) -> str | None:
    """A path as the library takes it."""
    return None if path is None else str(path)


def command() -> str:
    """What was typed, to be noted with its results."""
    return shlex.join(["maml-keras", *sys.argv[1:]])

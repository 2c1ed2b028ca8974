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
        "shows all of them. Not needed if --config gives the preset.",
        autocompletion=names.presets,
    ),
]
Run = Annotated[
    pathlib.Path, typer.Argument(help="Run folder, made by `maml-keras train`.")
]
Runs = Annotated[
    list[pathlib.Path],
    typer.Argument(
        help="Run folder, made by `maml-keras train`; several runs are an ensemble."
    ),
]
BatchNorm = Annotated[
    str | None,
    typer.Option(
        help="Batch-norm policy in place of the run's own, such as `inductive`, which "
        "predicts each query by itself.",
        show_default="the run's",
    ),
]
Export = Annotated[
    pathlib.Path,
    typer.Argument(help="Folder of an export, or of a run that holds an export."),
]
Out = Annotated[
    pathlib.Path | None,
    typer.Option(
        help="New folder for the run, the comparison or the search.",
        show_default="runs/PRESET, with -compare for a comparison and -tune for a "
        "search; the first free name with -2, -3, ...",
    ),
]
Resume = Annotated[
    bool,
    typer.Option(
        "--resume",
        help="Continue what was interrupted in --out, or in the newest of the preset's "
        "default folders. Only the missing part is trained.",
        show_default="off",
    ),
]
Iterations = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Length of training, in meta-steps. A training longer than an epoch must "
        "have whole epochs.",
        show_default="the preset's",
    ),
]
Seconds = Annotated[
    float | None,
    typer.Option(
        min=1.0,
        help="Length of training, in seconds, in place of --iterations. Compilation, "
        "looks at validation tasks and backups do not count.",
        show_default="none",
    ),
]
Steps = Annotated[
    int | None,
    typer.Option(
        min=0,
        help="Length of the adaptation to each new task, in gradient steps.",
        show_default="the preset's",
    ),
]
Tasks = Annotated[int, typer.Option(min=2, help="Number of new tasks to evaluate on.")]
Seed = Annotated[
    int,
    typer.Option(
        min=0,
        max=2**32 - 1,
        help="Seed of weights and training episodes, a whole number of 32 bits.",
    ),
]
Seeds = Annotated[
    int,
    typer.Option(
        min=1,
        help="Number of seeds to train each algorithm with: --seed, the next one, and "
        "so on. All are tested on the same tasks.",
    ),
]
DataDir = Annotated[
    pathlib.Path | None,
    typer.Option(
        help="Folder of the TFDS data sets, or for Omniglot the folder that its "
        "author's archives unzip to.",
        show_default="TFDS_DATA_DIR, or TFDS's default folder",
    ),
]
Download = Annotated[
    bool,
    typer.Option(
        "--download", help="Let TFDS download a missing data set.", show_default="off"
    ),
]
Devices = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="How many devices of this machine share each batch, a whole number: GPUs, "
        "or without a GPU logical processors, which are a trial and no faster.",
        show_default="one",
    ),
]
Cluster = Annotated[
    str | None,
    typer.Option(
        help="Addresses of all workers, HOST:PORT,HOST:PORT. Start the same command on "
        "each, with its own --worker and one --out on a shared disk.",
        show_default="that of TF_CONFIG, if any",
    ),
]
Worker = Annotated[
    int | None,
    typer.Option(
        min=0,
        help="Place of this process in --cluster, a whole number; worker 0 writes.",
        show_default="that of TF_CONFIG, if any",
    ),
]
Quiet = Annotated[
    bool,
    typer.Option(
        "--quiet",
        "-q",
        help="Print only results and errors: no progress bars, no warnings.",
        show_default="off",
    ),
]
Verbose = Annotated[
    bool,
    typer.Option(
        "--verbose",
        "-v",
        help="Also print automatic choices with their reasons, and an error's "
        "traceback.",
        show_default="off",
    ),
]


def text(path: pathlib.Path | None) -> str | None:
    """A path as a string, as the library expects it."""
    return None if path is None else str(path)


def command() -> str:
    """The command that the user typed, to record with its results."""
    return shlex.join(["maml-keras", *sys.argv[1:]])

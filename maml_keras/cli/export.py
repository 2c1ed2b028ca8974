"""Write a run's initialisation as a SavedModel with its card."""

from __future__ import annotations

import pathlib
from typing import Annotated

import typer

from maml_keras import runs
from maml_keras.cli.options import DataDir, Download, Quiet, Run, Tasks, text


def export(
    run: Run,
    out: Annotated[
        pathlib.Path | None,
        typer.Option(help="Folder for the SavedModel.  [default: RUN/export]"),
    ] = None,
    tasks: Tasks = 600,
    data_dir: DataDir = None,
    download: Download = False,
    quiet: Quiet = False,
) -> None:
    """Write a run's initialisation as a SavedModel with its card.

    The card carries the figures of an evaluation on the test tasks, made now.
    """
    maml, preset, config = runs.load(run)
    result = runs.evaluate(
        maml,
        preset,
        num_tasks=tasks,
        data_dir=text(data_dir),
        download=download,
        verbose=0 if quiet else 1,
    )
    path = runs.export(maml, preset, config, result, out or run / "export")
    typer.echo(result)
    typer.echo(f"SavedModel: {path}")

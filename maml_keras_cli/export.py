"""Write a run's initialisation as a SavedModel with its card."""

from __future__ import annotations

import pathlib
from typing import Annotated

import typer

from maml_keras_cli.folders import new_path
from maml_keras_cli.options import (
    DataDir,
    Download,
    Quiet,
    Run,
    Tasks,
    Verbose,
    text,
)


def export(
    run: Run,
    out: Annotated[
        pathlib.Path | None,
        typer.Option(
            help="New folder for the SavedModel.",
            show_default="RUN/export, or RUN/export-2, .. if that is taken",
        ),
    ] = None,
    tasks: Tasks = 600,
    data_dir: DataDir = None,
    download: Download = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Write a run's initialisation as a SavedModel with its card.

    The card carries the figures of an evaluation on the test tasks, made now.
    """
    from maml_keras import runs

    path = runs.first_free(run / "export") if out is None else new_path(out)
    maml, preset, config = runs.load(run)
    result = runs.evaluate(
        maml,
        preset,
        num_tasks=tasks,
        data_dir=text(data_dir),
        download=download,
        verbose=0 if quiet else 1,
    )
    runs.export(maml, preset, config, result, path)
    typer.echo(result)
    typer.echo(f"SavedModel: {path}")

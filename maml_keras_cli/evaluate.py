"""Measure how a trained run adapts to new tasks."""

from __future__ import annotations

from typing import Annotated

import typer

from maml_keras_cli.options import (
    DataDir,
    Download,
    Quiet,
    Run,
    Steps,
    Tasks,
    Verbose,
    text,
)


def evaluate(
    run: Run,
    on: Annotated[str, typer.Option(help="Which tasks: test or validation.")] = "test",
    steps: Steps = None,
    tasks: Tasks = 600,
    data_dir: DataDir = None,
    download: Download = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Measure how a trained run adapts to new tasks, step by step.

    Prints mean, 95% half-width over tasks, median and the number of diverged tasks
    for each adaptation step, and writes them to a new `evaluation-2.json`, .. in the
    run.
    """
    from maml_keras import runs

    maml, preset, _ = runs.load(run)
    result = runs.evaluate(
        maml,
        preset,
        on=on,
        steps=steps,
        num_tasks=tasks,
        data_dir=text(data_dir),
        download=download,
        verbose=0 if quiet else 1,
    )
    written = runs.write_result(run, result)
    typer.echo(result.table())
    typer.echo(result)
    typer.echo(f"figures: {written}")

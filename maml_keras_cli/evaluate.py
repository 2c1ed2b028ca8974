"""The command `evaluate`: measures how a trained run adapts to new tasks."""

from __future__ import annotations

import enum
from typing import Annotated

import typer

from maml_keras_cli.options import (
    BatchNorm,
    DataDir,
    Download,
    Quiet,
    Run,
    Steps,
    Tasks,
    Verbose,
    text,
)


class Part(str, enum.Enum):
    """The parts of a preset that training does not use."""

    test = "test"
    validation = "validation"


class Queries(str, enum.Enum):
    """How the queries of a task are predicted."""

    together = "together"
    alone = "alone"


def evaluate(
    run: Run,
    on: Annotated[
        Part, typer.Option(help="The part of the preset to evaluate on.")
    ] = Part.test,
    steps: Steps = None,
    tasks: Tasks = 600,
    queries: Annotated[
        Queries,
        typer.Option(help="Predict the queries of a task together, or each one alone."),
    ] = Queries.together,
    batch_norm: BatchNorm = None,
    data_dir: DataDir = None,
    download: Download = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Measure how a trained run adapts to new tasks, step by step.

    Prints the mean, its 95% half-width over tasks, the median and the number of
    diverged tasks for each adaptation step. Writes the figures into a new file of the
    run folder, such as `evaluation-2.json`.
    """
    from maml_keras.experiments import runs

    maml, preset, config = runs.load(run)
    if batch_norm is not None:
        maml = maml.with_batch_norm(batch_norm)
    result = runs.evaluate(
        maml,
        preset,
        on=on.value,
        steps=steps,
        num_tasks=tasks,
        queries=queries.value,
        data_dir=text(data_dir) or config.get("data_dir"),
        download=download,
        verbose=0 if quiet else 1,
    )
    # The result is shown before it is written: writing into the folder may fail.
    typer.echo(result.table())
    typer.echo(f"{on.value} tasks: {result}")
    written = runs.write_result(run, result, on=on.value)
    typer.echo(f"figures: {written}")

"""The command `evaluate`: measures how a trained run adapts to new tasks."""

from __future__ import annotations

import enum
from typing import Annotated, Any

import typer

from maml_keras_cli import names
from maml_keras_cli.options import (
    BatchNorm,
    DataDir,
    Download,
    Quiet,
    Runs,
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
    run: Runs,
    on: Annotated[
        Part, typer.Option(help="The part of the preset to evaluate on.")
    ] = Part.test,
    preset: Annotated[
        str | None,
        typer.Option(
            help="A preset whose tasks to evaluate on, such as omniglot_5w5s for a "
            "run of omniglot_5w1s. Its classes must not be among the run's training "
            "classes.",
            show_default="the run's",
            autocompletion=names.presets,
        ),
    ] = None,
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
    diverged tasks for each adaptation step, and for classes how far the confidence can
    be trusted. Writes the figures into a new file of the run folder, such as
    `evaluation-2.json`.

    Several runs of one preset are an ensemble: each and the mean of their predictions
    are measured on the same tasks. Writes `ensemble.json` into the first run's folder.
    """
    from maml_keras.experiments import fixed_tasks, get, runs

    loaded = [runs.load(folder) for folder in run]
    mamls = [
        maml if batch_norm is None else maml.with_batch_norm(batch_norm)
        for maml, *_ in loaded
    ]
    _, own, config = loaded[0]
    other = None if preset is None else get(preset)
    presets = {str(settings["preset"]) for *_, settings in loaded}
    if len(presets) > 1:
        raise ValueError(
            "The runs of an ensemble must have one preset. Received: "
            f"{', '.join(sorted(presets))}. Evaluate them one by one."
        )
    measured: dict[str, Any] = {
        "on": on.value,
        "trained_on": None if other is None else own,
        "steps": steps,
        "num_tasks": tasks,
        "queries": queries.value,
        "data_dir": text(data_dir) or config.get("data_dir"),
        "download": download,
        "verbose": 0 if quiet else 1,
    }
    of: dict[str, Any] = {"on": on.value, "preset": other}
    # A result is shown before it is written: writing into the folder may fail.
    if len(mamls) > 1:
        whole = fixed_tasks.evaluate_ensemble(mamls, other or own, **measured)
        typer.echo(whole.table())
        typer.echo(f"{on.value} tasks: {whole}")
        name = "ensemble.json"
        written = fixed_tasks.write_result(run[0], whole, **of, name=name)
    else:
        result = fixed_tasks.evaluate(mamls[0], other or own, **measured)
        typer.echo(result.table())
        typer.echo(f"{on.value} tasks: {result}")
        if result.calibration is not None:
            typer.echo(result.calibration)
        written = fixed_tasks.write_result(run[0], result, **of)
    typer.echo(f"figures: {written}")

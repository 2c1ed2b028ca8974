"""Train several algorithms and test them on the same tasks."""

from __future__ import annotations

import pathlib
from typing import Annotated

import typer

from maml_keras import baselines, comparison, experiments, recipes
from maml_keras.cli.options import (
    DataDir,
    Download,
    Preset,
    Quiet,
    Seed,
    Steps,
    Tasks,
    command,
    text,
)


def compare(
    preset: Preset,
    algorithms: Annotated[
        str,
        typer.Option(
            help="Names with commas between; the others are compared with the first. "
            f"Any of: {', '.join([*recipes.RECIPES, *baselines.BASELINES])}."
        ),
    ] = "maml,fomaml,anil,reptile",
    out: Annotated[
        pathlib.Path | None,
        typer.Option(help="Folder for all runs.  [default: runs/PRESET-compare]"),
    ] = None,
    iterations: Annotated[
        int | None,
        typer.Option(min=1, help="Meta-steps of each.  [default: the preset's]"),
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option(
            min=1.0, help="Training time of each, in seconds, in place of --iterations."
        ),
    ] = None,
    seed: Seed = 0,
    steps: Steps = None,
    tasks: Tasks = 600,
    data_dir: DataDir = None,
    download: Download = False,
    quiet: Quiet = False,
) -> None:
    """Train several algorithms and test them on the same new tasks.

    Prints one table, mean and 95% half-width at several steps with the paired
    difference from the first, and writes it with a plot. Called again with the same
    folder, it trains only what is not there yet.
    """
    chosen = experiments.get(preset)
    folder = out or pathlib.Path("runs") / f"{chosen.name}-compare"
    result = comparison.compare(
        chosen,
        [name.strip() for name in algorithms.split(",")],
        folder,
        iterations=iterations,
        seconds=seconds,
        steps=steps,
        num_tasks=tasks,
        seed=seed,
        data_dir=text(data_dir),
        download=download,
        verbose=0 if quiet else 1,
        command=command(),
    )
    typer.echo(result.table())
    typer.echo(result)
    typer.echo(f"table, figures and plot: {folder}/comparison.*")

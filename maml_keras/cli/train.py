"""Train a preset, evaluate it on new tasks, and export it."""

from __future__ import annotations

import pathlib
from typing import Annotated

import typer

from maml_keras import experiments, recipes, runs
from maml_keras.cli.options import (
    DataDir,
    Download,
    Preset,
    Quiet,
    Seed,
    Tasks,
    command,
    text,
)


def train(
    preset: Preset,
    algorithm: Annotated[
        str, typer.Option(help=f"One of: {', '.join(recipes.RECIPES)}.")
    ] = "maml",
    out: Annotated[
        pathlib.Path | None,
        typer.Option(help="New folder for the run.  [default: runs/PRESET]"),
    ] = None,
    iterations: Annotated[
        int | None,
        typer.Option(min=1, help="Meta-steps.  [default: the preset's]"),
    ] = None,
    seed: Seed = 0,
    tasks: Tasks = 600,
    data_dir: DataDir = None,
    download: Download = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the interrupted run in --out.")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Train a preset, evaluate it on new tasks, and export it.

    The run folder gets `maml.keras`, TensorBoard's `logs`, `evaluation.json`, and
    `export`, a SavedModel. An interrupted run goes on with `--resume`.
    """
    chosen = experiments.get(preset)
    folder = out or pathlib.Path("runs") / chosen.name
    verbose = 0 if quiet else 1
    maml = runs.train(
        chosen,
        folder,
        algorithm=algorithm,
        iterations=iterations,
        seed=seed,
        data_dir=text(data_dir),
        download=download,
        resume=resume,
        verbose=verbose,
        command=command(),
    )
    result = runs.evaluate(
        maml, chosen, num_tasks=tasks, data_dir=text(data_dir), verbose=verbose
    )
    runs.write_result(folder, result)
    _, _, config = runs.load(folder)
    runs.export(maml, chosen, config, result, folder / "export")
    typer.echo(result.table())
    typer.echo(result)
    typer.echo(f"run: {folder}   TensorBoard: tensorboard --logdir {folder}/logs")
    typer.echo(f"SavedModel: {folder / 'export'}")

"""The command `compare`: trains several algorithms and tests them on the same tasks."""

from __future__ import annotations

import pathlib
import shlex
from typing import Annotated

import typer

from maml_keras_cli import names
from maml_keras_cli.folders import claimed_folder
from maml_keras_cli.options import (
    DataDir,
    Download,
    Iterations,
    Out,
    Preset,
    Quiet,
    Resume,
    Seconds,
    Seed,
    Seeds,
    Steps,
    Tasks,
    Verbose,
    command,
    text,
)
from maml_keras_cli.settings import Config, as_begun


def compare(
    context: typer.Context,
    preset: Preset,
    algorithms: Annotated[
        str,
        typer.Option(
            help="Names separated by commas; the others are compared with the first. "
            f"Choose from: {', '.join([*names.ALGORITHMS, *names.BASELINES])} "
            "(prototypical, proto_maml and prototypes need classes, the oracle needs "
            "sinusoids).",
            autocompletion=names.contestants,
        ),
    ] = "maml,fomaml,anil,reptile",
    out: Out = None,
    iterations: Iterations = None,
    seconds: Seconds = None,
    seed: Seed = 0,
    seeds: Seeds = 1,
    steps: Steps = None,
    tasks: Tasks = 600,
    data_dir: DataDir = None,
    download: Download = False,
    config: Config = None,
    resume: Resume = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Train several algorithms and test them on the same new tasks.

    Prints a table with the mean and its 95% half-width after several steps, and with
    the paired difference from the first algorithm. With several seeds, intervals over
    seeds and over tasks are told apart. Writes the table, a plot and
    `config.toml`: `maml-keras compare --config FOLDER/config.toml` repeats the
    comparison.
    """
    from maml_keras.experiments import comparing, registry, run_folder

    chosen = registry.get(preset)
    default = pathlib.Path("runs") / f"{preset}-compare"
    with claimed_folder("compare", out, default, resume=resume) as folder:
        if resume:
            if "algorithms" not in run_folder.read_config(folder):
                raise ValueError(
                    f"`--out` must be the folder of a comparison. Received: {folder}, "
                    "which holds a single run. Continue that run with `maml-keras "
                    "train ... --resume`."
                )
            algorithms, seed, seeds, steps, tasks = as_begun(
                context, folder, "algorithms", "seed", "seeds", "steps", "tasks"
            )
            if isinstance(algorithms, list):
                algorithms = ",".join(algorithms)
        result = comparing.compare(
            chosen,
            [name.strip() for name in algorithms.split(",")],
            folder,
            iterations=iterations,
            seconds=seconds,
            steps=steps,
            num_tasks=tasks,
            seed=seed,
            seeds=seeds,
            data_dir=text(data_dir and data_dir.absolute()),
            download=download,
            verbose=0 if quiet else 1,
            command=command(),
            announce=None if quiet else typer.echo,
        )
        typer.echo(result.table())
        typer.echo(result)
        typer.echo(f"table, figures and plot: {folder}/comparison.*")
        typer.echo(f"TensorBoard: tensorboard --logdir {shlex.quote(str(folder))}")

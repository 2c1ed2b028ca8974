"""The command `train`: trains a preset, evaluates it on new tasks and exports it."""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
import shlex
from typing import Annotated, Any

import typer

from maml_keras_cli import names
from maml_keras_cli.cluster import chosen_strategy, noticing_lost_workers
from maml_keras_cli.folders import claimed_folder
from maml_keras_cli.options import (
    Cluster,
    DataDir,
    Devices,
    Download,
    Iterations,
    Out,
    Preset,
    Quiet,
    Resume,
    Seconds,
    Seed,
    Tasks,
    Verbose,
    Worker,
    command,
    text,
)
from maml_keras_cli.settings import Config, as_begun


def train(
    context: typer.Context,
    preset: Preset,
    algorithm: Annotated[
        str,
        typer.Option(
            help=f"One of: {', '.join(names.ALGORITHMS)}.",
            autocompletion=names.algorithms,
        ),
    ] = "maml",
    out: Out = None,
    iterations: Iterations = None,
    seconds: Seconds = None,
    epoch: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Length of an epoch, in meta-steps. After each epoch the run looks at "
            "validation tasks and writes a backup. With --seconds an epoch is a "
            "twentieth of the time.",
            show_default="the preset's",
        ),
    ] = None,
    changes: Annotated[
        str | None,
        typer.Option(
            help="Settings in place of the preset's, with spaces between them, such as "
            "'inner_rate=0.3 steps=5'. Names: inner_rate, steps, outer_rate, "
            "evaluation_steps, and the arguments of the algorithm's recipe.",
            show_default="none",
        ),
    ] = None,
    seed: Seed = 0,
    tasks: Tasks = 600,
    data_dir: DataDir = None,
    download: Download = False,
    config: Config = None,
    resume: Resume = False,
    devices: Devices = None,
    cluster: Cluster = None,
    worker: Worker = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Train a preset, evaluate it on new tasks, and export it.

    The run folder gets `maml.keras`, TensorBoard's `logs`, `evaluation.json`, the
    SavedModel `export` and `config.toml`: `maml-keras train --config RUN/config.toml`
    repeats the run. No folder is ever overwritten.
    """
    from maml_keras.execution.replicas import Replicas
    from maml_keras.experiments import changes as changed
    from maml_keras.experiments import fixed_tasks, registry, run_folder, runs

    addresses = None if cluster is None else cluster.split(",")
    strategy = chosen_strategy(devices, addresses, worker)
    team = None if strategy is None else Replicas(strategy)
    if team is not None and team.workers > 1 and out is None:
        raise ValueError(
            "Workers need the same `--out`, a folder on a disk that they share. "
            "Received: none. Give `--out FOLDER` on each."
        )
    own = changed.read(changes, algorithm)
    chosen = registry.get(preset).with_changes(algorithm, **own).of(algorithm)
    if epoch is not None:
        chosen = dataclasses.replace(chosen, epoch=epoch)
    default = pathlib.Path("runs") / preset
    mine: Any = claimed_folder("train", out, default, resume=resume)
    if team is not None and not team.writes:
        mine = contextlib.nullcontext(out)
    with noticing_lost_workers(team), mine as folder:
        if resume:
            tasks, data_dir = as_begun(context, folder, "tasks", "data_dir")
        where: dict[str, Any] = {
            "data_dir": text(data_dir and pathlib.Path(data_dir).absolute()),
            "download": download,
        }
        maml = runs.train(
            chosen,
            folder,
            algorithm=algorithm,
            iterations=iterations,
            seconds=seconds,
            seed=seed,
            resume=resume,
            verbose=0 if quiet else 1,
            command=command(),
            settings={"tasks": tasks},
            strategy=strategy,
            **where,
        )
        if team is not None and not team.writes:
            team.of_all(0)  # TensorFlow wants all workers to end together.
            typer.echo(f"worker {team.worker} is done; worker 0 wrote {folder}")
            return
        result = fixed_tasks.evaluate(
            maml, chosen, num_tasks=tasks, verbose=0 if quiet else 1, **where
        )
        fixed_tasks.write_result(folder, result)
        path = run_folder.first_free(folder / "export")
        record = run_folder.read_config(folder)
        runs.export(maml, chosen, record, result, path, verbose=0 if quiet else 1)
        typer.echo(result.table())
        typer.echo(result)
        logs = shlex.quote(f"{folder}/logs")
        typer.echo(f"run: {folder}   TensorBoard: tensorboard --logdir {logs}")
        typer.echo(f"SavedModel: {path}")
        if team is not None:
            team.of_all(0)

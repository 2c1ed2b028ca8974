"""The command `tune`: searches settings of a preset on validation tasks."""

from __future__ import annotations

import enum
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
    Seed,
    Verbose,
    command,
    text,
)
from maml_keras_cli.settings import Config, as_begun


class Oracle(str, enum.Enum):
    """KerasTuner's oracles."""

    bayesian = "bayesian"
    random = "random"
    hyperband = "hyperband"


def tune(
    context: typer.Context,
    preset: Preset,
    more: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME=VALUES]...",
            help="Further settings to search, in the form of --search.",
            show_default="none",
        ),
    ] = None,
    search: Annotated[
        str | None,
        typer.Option(
            help="What to search, and where: NAME=LOW:HIGH, NAME=LOW:HIGH:log for "
            "steps by factors, or NAME=VALUE,VALUE. Names: inner_rate, steps, "
            "outer_rate, evaluation_steps, and the arguments of the algorithm's "
            "recipe. Example: --search inner_rate=0.01:1:log steps=1,3,5",
            show_default="none",
        ),
    ] = None,
    algorithm: Annotated[
        str,
        typer.Option(
            help=f"One of: {', '.join(names.ALGORITHMS)}.",
            autocompletion=names.algorithms,
        ),
    ] = "maml",
    oracle: Annotated[
        Oracle, typer.Option(help="What proposes the settings of the next trial.")
    ] = Oracle.bayesian,
    trials: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Number of trials; Hyperband has its own.",
            show_default="20",
        ),
    ] = None,
    out: Out = None,
    iterations: Iterations = None,
    tasks: Annotated[
        int, typer.Option(min=2, help="Number of validation tasks that judge a trial.")
    ] = 100,
    stop_bad: Annotated[
        bool,
        typer.Option(
            "--stop-bad/--no-stop-bad",
            help="Stop a trial that is worse than half of the earlier trials at the "
            "same point. Hyperband has its own rule.",
        ),
    ] = True,
    seed: Seed = 0,
    data_dir: DataDir = None,
    download: Download = False,
    config: Config = None,
    resume: Resume = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Search settings of a preset on validation tasks, with KerasTuner.

    Prints a table of all trials, and writes the table, a plot, `config.toml`, which
    repeats the search, and `best/config.toml`: `maml-keras train --config
    FOLDER/best/config.toml` trains with the best settings and tests the result. Test
    tasks are not used in the search.
    """
    from maml_keras.experiments import registry, run_folder, tuning

    chosen = registry.get(preset)
    wanted = " ".join(filter(None, [search, *(more or [])]))
    default = pathlib.Path("runs") / f"{preset}-tune"
    with claimed_folder("tune", out, default, resume=resume) as folder:
        method: str = oracle.value
        if resume:
            begun = run_folder.read_config(folder)
            if "search" not in begun:
                raise ValueError(
                    f"`--out` must be the folder of a search. Received: {folder}, "
                    "which holds something else. Choose another."
                )
            wanted = wanted or begun["search"]
            given = "algorithm", "oracle", "trials", "iterations", "tasks", "stop_bad"
            algorithm, method, trials, iterations, tasks, stop_bad, seed, data_dir = (
                as_begun(context, folder, *given, "seed", "data_dir")
            )
        if not wanted:
            raise ValueError(
                "A search needs `--search NAME=VALUES`. Received: none. Example: "
                "--search inner_rate=0.01:1:log steps=1,3,5"
            )
        result = tuning.tune(
            chosen,
            wanted,
            folder,
            algorithm=algorithm,
            oracle=getattr(method, "value", method),
            trials=trials,
            iterations=iterations,
            num_tasks=tasks,
            stop_bad=stop_bad,
            seed=seed,
            data_dir=text(data_dir and pathlib.Path(data_dir).absolute()),
            download=download,
            verbose=0 if quiet else 1,
            command=command(),
            announce=None if quiet else typer.echo,
        )
        typer.echo(result.table())
        typer.echo(result)
        typer.echo(f"table, figures and plot: {folder}/tuning.*")
        best = shlex.quote(f"{folder}/best/config.toml")
        typer.echo(f"train with the best settings: maml-keras train --config {best}")

"""The command line: maml-keras train | evaluate | compare | adapt | export."""

from __future__ import annotations

import contextlib
import pathlib
import shlex
import sys
from collections.abc import Iterator
from typing import Annotated

import typer

from maml_keras import baselines, comparison, experiments, recipes, runs, tuning
from maml_keras.threads import use_one_thread_per_task

app = typer.Typer(
    name="maml-keras",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="""Learn an initialisation that adapts to a new task from a few examples.

    A first session:

        maml-keras train sinusoid --out runs/sinusoid

        maml-keras evaluate runs/sinusoid --steps 5

        maml-keras adapt runs/sinusoid/export --data my_task.npz

    Presets: **sinusoid** (10-shot regression, 2 minutes), **omniglot_small** (242
    characters, 20 minutes), and the papers' Omniglot, mini-ImageNet and CIFAR-FS
    experiments, hours each.
    """,
)

Run = Annotated[
    pathlib.Path, typer.Argument(help="Folder that `maml-keras train` made.")
]
DataDir = Annotated[
    pathlib.Path | None,
    typer.Option(help="Where TFDS data sets lie.  [default: TFDS's own choice]"),
]
Download = Annotated[
    bool, typer.Option("--download", help="Let TFDS download a missing data set.")
]
Steps = Annotated[
    int | None,
    typer.Option(min=0, help="Adaptation steps.  [default: the preset's]"),
]
Tasks = Annotated[int, typer.Option(min=2, help="How many new tasks to evaluate on.")]
Quiet = Annotated[
    bool, typer.Option("--quiet", help="No progress bars; results and errors only.")
]


@app.command()
def train(
    preset: Annotated[
        str, typer.Argument(help=f"One of: {', '.join(experiments.PRESETS)}.")
    ],
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
    seed: Annotated[int, typer.Option(help="Draws weights and episodes.")] = 0,
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
    with _plain_errors():
        chosen = experiments.get(preset)
        folder = out or pathlib.Path("runs") / chosen.name
        verbose = 0 if quiet else 1
        maml = runs.train(
            chosen,
            folder,
            algorithm=algorithm,
            iterations=iterations,
            seed=seed,
            data_dir=_text(data_dir),
            download=download,
            resume=resume,
            verbose=verbose,
            command=_command(),
        )
        result = runs.evaluate(
            maml, chosen, num_tasks=tasks, data_dir=_text(data_dir), verbose=verbose
        )
        runs.write_result(folder, result)
        _, _, config = runs.load(folder)
        runs.export(maml, chosen, config, result, folder / "export")
        typer.echo(result.table())
        typer.echo(result)
        typer.echo(f"run: {folder}   TensorBoard: tensorboard --logdir {folder}/logs")
        typer.echo(f"SavedModel: {folder / 'export'}")


@app.command()
def evaluate(
    run: Run,
    on: Annotated[str, typer.Option(help="Which tasks: test or validation.")] = "test",
    steps: Steps = None,
    tasks: Tasks = 600,
    data_dir: DataDir = None,
    download: Download = False,
    quiet: Quiet = False,
) -> None:
    """Measure how a trained run adapts to new tasks, step by step.

    Prints mean, 95% half-width over tasks, median and the number of diverged tasks
    for each adaptation step, and writes them to `evaluation.json` in the run.
    """
    with _plain_errors():
        maml, preset, _ = runs.load(run)
        result = runs.evaluate(
            maml,
            preset,
            on=on,
            steps=steps,
            num_tasks=tasks,
            data_dir=_text(data_dir),
            download=download,
            verbose=0 if quiet else 1,
        )
        runs.write_result(run, result)
        typer.echo(result.table())
        typer.echo(result)


@app.command()
def compare(
    preset: Annotated[
        str, typer.Argument(help=f"One of: {', '.join(experiments.PRESETS)}.")
    ],
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
    seed: Annotated[int, typer.Option(help="Draws weights and episodes.")] = 0,
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
    with _plain_errors():
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
            data_dir=_text(data_dir),
            download=download,
            verbose=0 if quiet else 1,
            command=_command(),
        )
        typer.echo(result.table())
        typer.echo(result)
        typer.echo(f"table, figures and plot: {folder}/comparison.*")


@app.command()
def adapt(
    export: Annotated[
        pathlib.Path, typer.Argument(help="Folder that `maml-keras export` wrote.")
    ],
    data: Annotated[
        pathlib.Path,
        typer.Option(
            help="An .npz file with arrays `x` and `y`, one row an example; optionally "
            "`query_x` and `query_y` to predict and to measure."
        ),
    ],
    steps: Annotated[int, typer.Option(min=0, help="Gradient steps.")] = 10,
    learning_rate: Annotated[
        float | None,
        typer.Option(min=0.0, help="Of the steps.  [default: the inner loop's]"),
    ] = None,
    out: Annotated[
        pathlib.Path | None,
        typer.Option(help="Write the adapted network here, as a .keras file."),
    ] = None,
) -> None:
    """Adapt an export to one task of yours, from a few examples.

    Prints the loss before and after on your examples and, if the file has them, on
    the query examples.
    """
    with _plain_errors():
        typer.echo(
            tuning.adapt_file(
                export, data, steps=steps, learning_rate=learning_rate, out=out
            )
        )


@app.command()
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
    with _plain_errors():
        maml, preset, config = runs.load(run)
        result = runs.evaluate(
            maml,
            preset,
            num_tasks=tasks,
            data_dir=_text(data_dir),
            download=download,
            verbose=0 if quiet else 1,
        )
        path = runs.export(maml, preset, config, result, out or run / "export")
        typer.echo(result)
        typer.echo(f"SavedModel: {path}")


def main() -> None:
    """Runs the command line, in a process whose threads are its own to set."""
    use_one_thread_per_task()
    app()


@contextlib.contextmanager
def _plain_errors() -> Iterator[None]:
    """One line and an exit code for what a user can mend; a traceback for a bug."""
    try:
        yield
    except (ValueError, FileNotFoundError, FileExistsError, ImportError) as error:
        typer.echo(f"error: {' '.join(str(error).split())}", err=True)
        raise typer.Exit(1) from error
    except KeyboardInterrupt as error:
        typer.echo("interrupted; `maml-keras train` goes on with --resume", err=True)
        raise typer.Exit(130) from error


def _command() -> str:
    return shlex.join(["maml-keras", *sys.argv[1:]])


def _text(path: pathlib.Path | None) -> str | None:
    return None if path is None else str(path)


if __name__ == "__main__":
    main()

"""The program: its commands, its help and its version."""

from __future__ import annotations

import platform
from collections.abc import Callable
from importlib import metadata
from typing import Annotated

import typer

from maml_keras_cli.adapt import adapt
from maml_keras_cli.card import card
from maml_keras_cli.compare import compare
from maml_keras_cli.data import data
from maml_keras_cli.evaluate import evaluate
from maml_keras_cli.export import export
from maml_keras_cli.listing import list_
from maml_keras_cli.process import in_process
from maml_keras_cli.train import train

app = typer.Typer(
    name="maml-keras",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
    help="""Learn an initialisation that adapts to a new task from a few examples.

    A first session:

        maml-keras train sinusoid --out runs/sinusoid

        maml-keras evaluate runs/sinusoid --steps 5

        maml-keras adapt runs/sinusoid/export --data my_task.npz

    `maml-keras list` shows the experiments and algorithms, `maml-keras data` the data
    sets.

    Exit codes: 0 for success, 1 for an error that you can fix, 2 for a command that was
    not understood, 130 for Ctrl-C, 143 for SIGTERM.
    """,
)
COMMANDS: dict[str, Callable[..., None]] = {
    "train": train,
    "evaluate": evaluate,
    "compare": compare,
    "adapt": adapt,
    "export": export,
    "card": card,
    "list": list_,
    "data": data,
}
for _name, _command in COMMANDS.items():
    app.command(_name)(in_process(_command))


def _version(wanted: bool) -> None:
    if wanted:
        ours, tensorflow, keras = map(
            metadata.version, ("maml_keras", "tensorflow", "keras")
        )
        typer.echo(
            f"maml-keras {ours} (TensorFlow {tensorflow}, Keras {keras}, Python "
            f"{platform.python_version()})"
        )
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            help="Print the versions of maml-keras, TensorFlow, Keras and Python.",
            is_eager=True,
            callback=_version,
        ),
    ] = False,
) -> None:
    """Options of the program itself. Its help text is in `app`."""


def main() -> None:
    """Runs the program."""
    app()

"""The program: its commands, its help and its version."""

from __future__ import annotations

import platform
from collections.abc import Callable
from importlib import metadata
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from maml_keras_cli.adapt import adapt
from maml_keras_cli.card import card
from maml_keras_cli.compare import compare
from maml_keras_cli.data_audit import audit
from maml_keras_cli.data_show import show
from maml_keras_cli.evaluate import evaluate
from maml_keras_cli.export import export
from maml_keras_cli.listing import list_
from maml_keras_cli.process import in_process
from maml_keras_cli.train import train
from maml_keras_cli.tune import tune

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
    "tune": tune,
    "adapt": adapt,
    "export": export,
    "card": card,
    "list": list_,
}
for _name, _command in COMMANDS.items():
    app.command(_name)(in_process(_command))


class ShowsData(TyperGroup):
    """The commands of `data`; without a command, `data` is `data show`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Puts `show` before arguments that name no command."""
        helps = {"--help", "-h"} & set(args)
        named = next((arg for arg in args if not arg.startswith("-")), None)
        if named not in self.commands and not (helps and named is None):
            args = ["show", *args]
        rest: list[str] = super().parse_args(ctx, args)
        return rest


_data = typer.Typer(
    cls=ShowsData, help="Show data sets and tasks, and look for leaks and faults."
)
_data.command("show")(in_process(show))
_data.command("audit")(in_process(audit))
app.add_typer(_data, name="data")


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

"""The program: its commands and its help."""

from __future__ import annotations

import typer

from maml_keras.cli.adapt import adapt
from maml_keras.cli.compare import compare
from maml_keras.cli.errors import plain_errors
from maml_keras.cli.evaluate import evaluate
from maml_keras.cli.export import export
from maml_keras.cli.train import train
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
for _command in (train, evaluate, compare, adapt, export):
    app.command()(plain_errors()(_command))


def main() -> None:
    """Runs the command line, in a process whose threads are its own to set."""
    use_one_thread_per_task()
    app()

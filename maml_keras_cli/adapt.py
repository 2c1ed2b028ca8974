"""Adapt an export to one task of the user."""

from __future__ import annotations

import pathlib
from typing import Annotated

import typer

from maml_keras_cli.folders import export_folder, new_path
from maml_keras_cli.options import Export, Quiet, Verbose


def adapt(
    export: Export,
    data: Annotated[
        pathlib.Path,
        typer.Option(
            help="An .npz file with arrays `x` and `y`, one row an example; optionally "
            "`query_x` and `query_y` to predict and to measure."
        ),
    ],
    steps: Annotated[
        int, typer.Option(min=0, help="How far to adapt, in gradient steps.")
    ] = 10,
    learning_rate: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            help="Of each step: what its gradient is multiplied by.",
            show_default="the inner loop's",
        ),
    ] = None,
    out: Annotated[
        pathlib.Path | None,
        typer.Option(
            help="Write the adapted network here, as a .keras file.",
            show_default="not written",
        ),
    ] = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Adapt an export to one task of yours, from a few examples.

    Prints the loss before and after on your examples and, if the file has them, on
    the query examples.
    """
    from maml_keras import tuning

    typer.echo(
        tuning.adapt_file(
            export_folder(export),
            data,
            steps=steps,
            learning_rate=learning_rate,
            out=out and new_path(out),
        )
    )

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
            help="A folder with a folder of images for each class; or an .npz file "
            "with arrays `x` and `y`, one row an example, and optionally `query_x` and "
            "`query_y` to measure on."
        ),
    ],
    query: Annotated[
        pathlib.Path | None,
        typer.Option(
            help="Other examples of the same task, in the same form, to measure on.",
            show_default="none",
        ),
    ] = None,
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

    Prints the accuracy, or the export's own loss, before and after, on your examples
    and on the query examples if there are any. Images become as large as those of the
    training, with values from 0 to 1.
    """
    from maml_keras.export import file_adaptation

    typer.echo(
        file_adaptation.adapt_file(
            export_folder(export),
            data,
            query=query,
            steps=steps,
            learning_rate=learning_rate,
            out=out and new_path(out),
            verbose=0 if quiet else 1,
        )
    )

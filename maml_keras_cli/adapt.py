"""The command `adapt`: adapts an export to one task of the user."""

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
            help="Examples of the task: a folder with a folder of images for each "
            "class, an .npz file with arrays `x` and `y`, one row for each example, or "
            "a .csv or .parquet file for an export that was trained on a table or on "
            "texts (columns `text` and `--target`). "
            "An .npz file may also hold query examples, `query_x` and `query_y`."
        ),
    ],
    query: Annotated[
        pathlib.Path | None,
        typer.Option(
            help="Query examples: other examples of the same task, in the same form. "
            "The adapted network is measured on them. Rows of a table without the "
            "target column are predicted.",
            show_default="none",
        ),
    ] = None,
    target: Annotated[
        list[str] | None,
        typer.Option(
            help="Target column of a table; once for each target. The column of "
            "classes beside texts.",
            show_default="the names in training",
        ),
    ] = None,
    steps: Annotated[
        int, typer.Option(min=0, help="Length of the adaptation, in gradient steps.")
    ] = 10,
    learning_rate: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            help="Learning rate: each step's gradient is multiplied by this number.",
            show_default="the inner loop's",
        ),
    ] = None,
    out: Annotated[
        pathlib.Path | None,
        typer.Option(
            help="New .keras file for the adapted network.",
            show_default="not written",
        ),
    ] = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Adapt an export to one task of yours, from a few examples.

    Prints the accuracy, or the export's own loss, before and after adaptation: on your
    examples, and on the query examples if there are any. Images are resized to the size
    of the training images, with values from 0 to 1. Tables keep their unit.
    """
    from maml_keras.export import file_adaptation

    typer.echo(
        file_adaptation.adapt_file(
            export_folder(export),
            data,
            query=query,
            target=target or None,
            steps=steps,
            learning_rate=learning_rate,
            out=out and new_path(out),
            verbose=0 if quiet else 1,
        )
    )

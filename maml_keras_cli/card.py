"""The command `card`: shows the card of an export."""

from __future__ import annotations

import pathlib
from typing import Annotated

import typer

from maml_keras_cli.folders import new_path
from maml_keras_cli.options import Export, Quiet, Verbose


def card(
    export: Export,
    html: Annotated[
        pathlib.Path | None,
        typer.Option(
            help="New .html file: write the card as a web page, too.",
            show_default="not written",
        ),
    ] = None,
    latency: Annotated[
        bool,
        typer.Option(
            help="Measure the latency of `adapt` and `serve` on this machine, in about "
            "ten seconds."
        ),
    ] = True,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Show the card of an export: task, protocol, figures, size and latency.

    The figures were recorded when the export was written; a missing one is shown as
    "not recorded". Latency is measured now, with TensorFlow alone.
    """
    import maml_keras as mk

    page = html and new_path(html, option="--html")
    shown = mk.model_card(export, latency=latency, verbose=0 if quiet else 1)
    typer.echo(shown)
    if page is not None:
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(shown.html(), encoding="utf-8")
        typer.echo(f"\npage: {page}")

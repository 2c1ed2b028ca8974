"""Show the card of an export."""

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
            help="Write the card as a page into this new .html file, too.",
            show_default="not written",
        ),
    ] = None,
    latency: Annotated[
        bool,
        typer.Option(
            help="Time `adapt` and `serve` on this machine, some ten seconds long."
        ),
    ] = True,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Show the card of an export: task, protocol, figures, size and latency.

    Figures are those that were written with the export; what it does not say is "not
    recorded". Latency is measured now, with TensorFlow alone.
    """
    import maml_keras as mk

    page = html and new_path(html, option="--html")
    shown = mk.model_card(export, latency=latency, verbose=0 if quiet else 1)
    typer.echo(shown)
    if page is not None:
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(shown.html(), encoding="utf-8")
        typer.echo(f"\npage: {page}")

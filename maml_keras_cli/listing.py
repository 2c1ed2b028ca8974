"""The command `list`: lists presets, algorithms and baselines."""

from __future__ import annotations

import enum
from typing import Annotated, Any

import typer


class Kind(str, enum.Enum):
    """The sections of `maml-keras list`."""

    presets = "presets"
    algorithms = "algorithms"
    baselines = "baselines"


def list_(
    kind: Annotated[
        Kind | None,
        typer.Argument(help="The section to list.", show_default="all three"),
    ] = None,
) -> None:
    """List presets, algorithms and baselines, with their published figures."""
    from maml_keras import recipes
    from maml_keras.experiments import baselines, registry

    sections: dict[Kind, tuple[str, dict[str, list[str]]]] = {
        Kind.presets: (
            "presets, for `maml-keras train PRESET`",
            {
                name: [preset.title, f"published: {preset.published}"]
                for name, preset in registry.PRESETS.items()
            },
        ),
        Kind.algorithms: (
            "algorithms, for `maml-keras train PRESET --algorithm NAME`",
            {name: _summary(recipe) for name, recipe in recipes.RECIPES.items()},
        ),
        Kind.baselines: (
            "baselines, for `maml-keras compare PRESET --algorithms maml,NAME`",
            {name: _summary(make) for name, make in baselines.BASELINES.items()},
        ),
    }
    for title, entries in (sections[k] for k in ([kind] if kind else Kind)):
        typer.secho(title, bold=True)
        width = max(map(len, entries)) + 2
        for name, (first, *others) in entries.items():
            typer.echo(f"  {name:<{width}}{first}")
            for line in others:
                typer.echo(" " * (width + 2) + line)


def _summary(function: Any) -> list[str]:
    """The first line of a docstring, and its references."""
    lines = [line.strip() for line in (function.__doc__ or "").splitlines()]
    references = [line for line in lines if line.startswith("Reference: ")]
    return [lines[0], *(line.replace("Reference", "published") for line in references)]

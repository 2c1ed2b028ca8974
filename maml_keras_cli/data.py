"""The command `data`: shows the data sets, or the tasks of a preset."""

from __future__ import annotations

import pathlib
from typing import Annotated, Any

import typer

from maml_keras_cli import names
from maml_keras_cli.folders import new_path
from maml_keras_cli.options import DataDir, Download, Quiet, Verbose, text


def data(
    preset: Annotated[
        str | None,
        typer.Argument(
            help="Show the tasks of this preset; `maml-keras list` shows all presets.",
            show_default="the data sets themselves",
            autocompletion=names.presets,
        ),
    ] = None,
    picture: Annotated[
        pathlib.Path | None,
        typer.Option(
            help="New PNG file for a picture of the preset's first test task.",
            show_default="not drawn",
        ),
    ] = None,
    data_dir: DataDir = None,
    download: Download = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Show which data sets are on this machine and how to get the others.

    With a preset, show the classes and examples of its training, validation and test
    part, and the size of a task.
    """
    if preset is None:
        if picture is not None or download:
            raise typer.BadParameter(
                "`--picture` and `--download` need a preset, such as "
                "`maml-keras data omniglot_small`."
            )
        _echo_data_sets(text(data_dir))
        return
    from maml_keras.experiments import registry

    picture = picture and new_path(picture, option="--picture")
    chosen = registry.get(preset)
    families = chosen.families(
        data_dir=text(data_dir), download=download, verbose=0 if quiet else 1
    )
    typer.secho(f"{chosen.name}: {chosen.title}", bold=True)
    typer.echo(f"  {chosen.protocol}; {chosen.adaptation}")
    for part, family in zip(families._fields, families):
        typer.echo(f"  {part:<12}{_described(family)}")
    if picture is not None:
        _draw(families.test, picture)
        typer.echo(f"first test task: {picture}")


def _echo_data_sets(data_dir: str | None) -> None:
    from maml_keras.data.catalogue import CATALOGUE

    for entry in CATALOGUE.values():
        found = entry.find(data_dir)
        typer.secho(f"{entry.name}: {entry.title}", bold=True)
        typer.echo(f"  here: {found}" if found else f"  not here. {entry.remedy}")
    typer.secho("your own", bold=True)
    typer.echo(
        "  mk.data.from_arrays(images, labels)\n"
        "  mk.data.from_folder(path), with a folder of images for each class\n"
        "  mk.data.from_tfds(name), for any TFDS data set of classified images"
    )


def _described(family: Any) -> str:
    from maml_keras.data import NWayKShot

    if not isinstance(family, NWayKShot):
        return repr(family)
    pool = family.pool
    low, high = int(pool.counts.min()), int(pool.counts.max())
    groups = "" if pool.groups is None else f" of {len(set(pool.groups))} groups"
    rotated = ", each class rotated by a multiple of 90 degrees"
    return (
        f"{pool.num_classes:,} classes{groups}, {pool.num_examples:,} examples "
        f"{'x'.join(map(str, pool.examples.shape[1:]))}, "
        f"{low if low == high else f'{low} to {high}'} a class; a task: {family.ways} "
        f"ways, {family.shots} shot(s), {family.queries} queries a class"
        f"{rotated if family.rotate_classes else ''}"
    )


def _draw(family: Any, path: pathlib.Path) -> None:
    from maml_keras import data
    from maml_keras.evaluation.plots import plot_task
    from maml_keras.experiments import runs

    episodes = data.episodes(family, batch_size=1, seed=runs.TEST_SEED, num_episodes=1)
    for task, query_y in episodes:
        plot_task({name: array[0] for name, array in task.items()}, query_y[0], path)

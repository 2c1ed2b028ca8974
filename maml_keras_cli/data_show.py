"""The command `data show`: lists the data sets, or draws one task of one of them."""

from __future__ import annotations

import pathlib
import shutil
from typing import Annotated, Any

import typer

from maml_keras_cli import names
from maml_keras_cli.folders import new_path
from maml_keras_cli.options import DataDir, Download, Quiet, Verbose, text

# Images of a folder get this side, and its tasks have at most this size.
SIDE, WAYS, QUERIES = 84, 5, 15


def show(
    what: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME|PATH",
            help="A preset (`maml-keras list` shows all), a folder with a folder of "
            "images for each class, or an .npz file with arrays x and y.",
            show_default="the data sets themselves",
            autocompletion=names.presets,
        ),
    ] = None,
    part: Annotated[
        str, typer.Option(help="Part of a preset: train, validation or test.")
    ] = "test",
    episode: Annotated[
        int,
        typer.Option(min=0, help="Number of the task, from 0; always the same task."),
    ] = 0,
    out: Annotated[
        pathlib.Path | None,
        typer.Option(help="New PNG file for a picture.", show_default="not drawn"),
    ] = None,
    data_dir: DataDir = None,
    download: Download = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """List the data sets, or draw one task: what a learner sees and is graded on.

    Without a name, show which data sets are on this machine and how to get the others.
    In the terminal, images are made of dots, curves of points, and everything else is a
    table. `--out` writes a picture. The tasks of the test part are those of
    `maml-keras evaluate`. Tasks of a folder have five classes with one support image
    each.
    """
    if what is None:
        if out is not None or download:
            raise typer.BadParameter(
                "`--out` and `--download` need a preset, such as "
                "`maml-keras data show omniglot_small`."
            )
        _echo_data_sets(text(data_dir))
        return
    from maml_keras.evaluation import plot_task, task_text
    from maml_keras.experiments import registry

    out = out and new_path(out)
    loud = 0 if quiet else 1
    if what not in registry.PRESETS and pathlib.Path(what).exists():
        task, query_y = _of_path(pathlib.Path(what), episode, loud)
    else:
        where = {"data_dir": text(data_dir), "download": download, "verbose": loud}
        task, query_y = _of_preset(registry.get(what), part, episode, where)
    typer.echo(task_text(task, query_y, width=shutil.get_terminal_size().columns))
    if out is not None:
        typer.echo(f"picture: {plot_task(task, query_y, out)}")


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


def _of_preset(
    preset: Any, part: str, episode: int, where: dict[str, Any]
) -> tuple[Any, Any]:
    """Prints what a preset's parts hold; returns a task of one part."""
    from maml_keras.experiments import fixed_tasks

    seeds = {"train": fixed_tasks.TRAIN_SEED, **fixed_tasks.SEEDS}
    if part not in seeds:
        raise ValueError(
            f"`--part` must be one of {', '.join(seeds)}. Received: {part!r}."
        )
    families = preset.families(**where)
    typer.secho(f"{preset.name}: {preset.title}", bold=True)
    typer.echo(f"  {preset.protocol}; {preset.adaptation}")
    for name, family in zip(families._fields, families):
        typer.echo(f"  {name:<12}{_described(family)}")
    typer.echo(f"task {episode} of {part}:")
    return _drawn(getattr(families, part), seeds[part], episode)


def _of_path(path: pathlib.Path, episode: int, verbose: int) -> tuple[Any, Any]:
    """Prints what a folder or a file holds; returns a task of it."""
    from maml_keras import data
    from maml_keras.data import task_files

    if path.is_dir():
        pool = data.from_folder(path, size=(SIDE, SIDE), verbose=verbose)
        typer.echo(f"{path}: {pool}")
        least = int(pool.counts.min())
        family = data.NWayKShot(
            pool,
            ways=min(WAYS, pool.num_classes),
            shots=1,
            queries=min(QUERIES, max(1, least - 1)),
        )
        typer.echo(f"task {episode} of {family.ways} classes:")
        return _drawn(family, 0, episode)
    arrays = task_files.read(path, shape=(), ways=None, option="PATH").arrays
    typer.echo(f"{path}: {', '.join(f'{k} {v.shape}' for k, v in arrays.items())}")
    task = {"support_x": arrays["x"], "support_y": arrays["y"]}
    # A file without queries shows its support set alone.
    queries = (arrays.get(f"query_{k}", arrays[k][:0]) for k in ("x", "y"))
    query_x, query_y = queries
    return {**task, "query_x": query_x}, query_y


def _drawn(family: Any, seed: int, episode: int) -> tuple[Any, Any]:
    import tensorflow as tf

    from maml_keras import data

    batches = data.episodes(
        family, batch_size=1, seed=seed, num_episodes=episode + 1, start=episode
    )
    batch = next(iter(batches))
    task, query_y = tf.nest.map_structure(lambda tensor: tensor[0].numpy(), batch[:2])
    return task, query_y


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

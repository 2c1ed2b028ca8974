"""The command `data audit`: looks for leaks and faults in a folder or a preset."""

from __future__ import annotations

import pathlib
from typing import Annotated, Any

import typer

from maml_keras_cli import names
from maml_keras_cli.options import DataDir, Download, Quiet, Verbose, text

# The folders of the parts, by the names that are usual for them.
PARTS = {
    "train": ("train", "training"),
    "validation": ("validation", "val", "valid"),
    "test": ("test",),
}


def audit(
    data: Annotated[
        str,
        typer.Argument(
            help="A preset, or a folder of images: `PATH/class/image.png`, or parts in "
            "`PATH/train/class/..`, `PATH/validation/..` and `PATH/test/..`.",
            autocompletion=names.presets,
        ),
    ],
    size: Annotated[
        int | None,
        typer.Option(
            min=8,
            help="Resize the images of a folder to this height and width, in pixels.",
            show_default="their own size",
        ),
    ] = None,
    data_dir: DataDir = None,
    download: Download = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Look for leaks and faults in data before training on them.

    Examples and classes that two parts share, near-copies of images, support examples
    among the queries, labels that position tells, NaN, scale, balance, and few
    different tasks. Exit code 1 if there is a leak or a fault.
    """
    from maml_keras.data.audit import audit as looked_at

    progress = 0 if quiet else 1
    if data in names.PRESETS:
        parts = _of_preset(data, text(data_dir), download, progress)
    else:
        parts = _of_folder(pathlib.Path(data), size, progress)
    report = looked_at(**parts)
    typer.echo(str(report))
    if any(found.severity in ("leak", "fault") for found in report.findings):
        raise typer.Exit(1)


def _of_preset(
    name: str, data_dir: str | None, download: bool, progress: int
) -> dict[str, Any]:
    from maml_keras.experiments import registry

    preset = registry.get(name)
    families = preset.families(data_dir=data_dir, download=download, verbose=progress)
    return families._asdict()


def _of_folder(path: pathlib.Path, size: int | None, progress: int) -> dict[str, Any]:
    if not path.is_dir():
        raise typer.BadParameter(
            f"{path} is neither a preset nor a folder. `maml-keras list` shows all "
            "presets."
        )
    from maml_keras.data import from_folder

    folders = {
        part: path / usual
        for part, names_of in PARTS.items()
        for usual in names_of
        if (path / usual).is_dir()
    }
    if "train" not in folders:
        folders = {"train": path}
    sides = None if size is None else (size, size)
    return {
        part: from_folder(folder, size=sides, verbose=progress)
        for part, folder in folders.items()
    }

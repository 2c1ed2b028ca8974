"""Write a run's initialisation, or an adapted network, for where it is to run."""

from __future__ import annotations

import enum
import pathlib
from typing import Annotated

import typer

from maml_keras_cli.folders import new_path
from maml_keras_cli.options import DataDir, Download, Quiet, Tasks, Verbose, text


class Format(str, enum.Enum):
    """What can be written; the latter two only predict."""

    savedmodel = "savedmodel"
    onnx = "onnx"
    litert = "litert"


def export(
    path: Annotated[
        pathlib.Path,
        typer.Argument(
            help="Folder that `maml-keras train` made; for ONNX and LiteRT also an "
            "export, or a .keras file that `maml-keras adapt --out` wrote."
        ),
    ],
    format: Annotated[
        Format,
        typer.Option(
            help="A SavedModel adapts and predicts where TensorFlow runs. ONNX and "
            "LiteRT (.tflite) predict, without TensorFlow: best a network that was "
            "adapted before. They have no card: --tasks, --data-dir and --download "
            "are the SavedModel's."
        ),
    ] = Format.savedmodel,
    out: Annotated[
        pathlib.Path | None,
        typer.Option(
            help="New folder for the SavedModel, or new .onnx or .tflite file.",
            show_default="RUN/export; for ONNX and LiteRT beside what is converted; or "
            "the first free of -2, -3, ..",
        ),
    ] = None,
    tasks: Tasks = 600,
    data_dir: DataDir = None,
    download: Download = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Write a run's initialisation as a SavedModel, or any network as ONNX or LiteRT.

    The SavedModel's card carries the figures of an evaluation on the test tasks, made
    now. ONNX and LiteRT files are run by their own runtime, and refused if its answers
    are not Keras's.
    """
    if format is not Format.savedmodel:
        _convert(path, format.value, out, 0 if quiet else 1)
        return
    if (path / "saved_model.pb").exists():
        raise ValueError(
            f"A SavedModel is written from a run's folder. Received: {path}, which is "
            "one already: copy the folder. Or take `--format onnx` or `--format "
            "litert`."
        )
    if path.suffix == ".keras":
        raise ValueError(
            f"A SavedModel is written from a run's folder. Received: {path}. Take "
            "`--format onnx` or `--format litert`, or of a .keras file Keras's own: "
            "`keras.saving.load_model(path).export(folder)`."
        )
    from maml_keras.experiments import run_folder, runs

    folder = run_folder.first_free(path / "export") if out is None else new_path(out)
    maml, preset, config = runs.load(path)
    result = runs.evaluate(
        maml,
        preset,
        num_tasks=tasks,
        data_dir=text(data_dir) or config.get("data_dir"),
        download=download,
        verbose=0 if quiet else 1,
    )
    runs.export(maml, preset, config, result, folder, verbose=0 if quiet else 1)
    typer.echo(result)
    typer.echo(f"SavedModel: {folder}")


def _convert(
    path: pathlib.Path, name: str, out: pathlib.Path | None, verbose: int
) -> None:
    from maml_keras.experiments import run_folder
    from maml_keras.export import conversion
    from maml_keras.export.runtimes import FORMATS

    suffix = FORMATS[name].suffix
    # Of a run inside it, as its SavedModel is.
    beside = path / "export" if (path / "maml.keras").exists() else path.resolve()
    written = (
        run_folder.first_free(beside.with_name(f"{beside.stem}{suffix}"))
        if out is None
        else new_path(out)
    )
    typer.echo(conversion.convert_file(path, written, format=name, verbose=verbose))

"""The command `export`: writes a SavedModel, an ONNX file or a LiteRT file."""

from __future__ import annotations

import enum
import pathlib
from typing import Annotated, Any

import typer

from maml_keras_cli.folders import new_path
from maml_keras_cli.options import (
    BatchNorm,
    DataDir,
    Download,
    Quiet,
    Tasks,
    Verbose,
    text,
)


class Format(str, enum.Enum):
    """Formats of an export. Only with `--adapt`, ONNX and LiteRT files adapt."""

    savedmodel = "savedmodel"
    onnx = "onnx"
    litert = "litert"


def export(
    path: Annotated[
        pathlib.Path,
        typer.Argument(
            help="Run folder, made by `maml-keras train`. For ONNX and LiteRT also an "
            "export, or a .keras file written by `maml-keras adapt --out`."
        ),
    ],
    format: Annotated[
        Format,
        typer.Option(
            help="A SavedModel adapts and predicts wherever TensorFlow runs. ONNX and "
            "LiteRT (.tflite) files predict without TensorFlow; with --adapt they "
            "adapt, too. --batch-norm, --tasks, --data-dir and --download apply to the "
            "SavedModel only."
        ),
    ] = Format.savedmodel,
    adapt: Annotated[
        bool,
        typer.Option(
            "--adapt",
            help="Write an ONNX or LiteRT file that learns: the functions of the "
            "SavedModel, with its card. Without this option, the file only predicts: "
            "convert a network that is adapted already.",
            show_default="off",
        ),
    ] = False,
    support: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Number of support examples that a file that learns takes, for "
            "runtimes which want fixed sizes.",
            show_default="any number",
        ),
    ] = None,
    query: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Number of queries that a file that learns takes.",
            show_default="any number",
        ),
    ] = None,
    out: Annotated[
        pathlib.Path | None,
        typer.Option(
            help="New folder for the SavedModel, or new .onnx or .tflite file.",
            show_default="RUN/export; for ONNX and LiteRT a file beside the converted "
            "one; or the first free name with -2, -3, ...",
        ),
    ] = None,
    batch_norm: BatchNorm = None,
    tasks: Tasks = 600,
    data_dir: DataDir = None,
    download: Download = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Write a run's initialisation as a SavedModel, or any network as ONNX or LiteRT.

    For a SavedModel, the run is evaluated on the test tasks now, and the card holds the
    figures. An ONNX or LiteRT file is run once by its own runtime, and refused if the
    predictions differ from Keras's.
    """
    if not adapt and (support is not None or query is not None):
        raise ValueError(
            "`--support` and `--query` are sizes of a file that learns. Add `--adapt`."
        )
    if format is not Format.savedmodel:
        _convert(
            path,
            format.value,
            out,
            0 if quiet else 1,
            adapt=adapt,
            support=support,
            query=query,
        )
        return
    if adapt:
        raise ValueError(
            "`--adapt` is for ONNX and LiteRT files; a SavedModel always adapts. Add "
            "`--format onnx` or `--format litert`, or leave `--adapt` out."
        )
    if (path / "saved_model.pb").exists():
        raise ValueError(
            f"A SavedModel is written from a run folder. Received: {path}, which is a "
            "SavedModel already. Copy the folder, or convert it with `--format onnx` "
            "or `--format litert`."
        )
    if path.suffix == ".keras":
        raise ValueError(
            f"A SavedModel is written from a run folder. Received: {path}. Convert the "
            "file with `--format onnx` or `--format litert`, or write Keras's own "
            "SavedModel: `keras.saving.load_model(path).export(folder)`."
        )
    from maml_keras.experiments import fixed_tasks, run_folder, runs

    folder = run_folder.first_free(path / "export") if out is None else new_path(out)
    maml, preset, config = runs.load(path)
    if batch_norm is not None:
        maml = maml.with_batch_norm(batch_norm)
    result = fixed_tasks.evaluate(
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
    path: pathlib.Path,
    name: str,
    out: pathlib.Path | None,
    verbose: int,
    **learner: Any,
) -> None:
    from maml_keras.experiments import run_folder
    from maml_keras.export import conversion
    from maml_keras.export.runtimes import FORMATS

    suffix = FORMATS[name].suffix
    # The file of a run goes into the run folder, as its SavedModel does.
    target = path / "export" if (path / "maml.keras").exists() else path.resolve()
    stem = f"{target.stem}.learner" if learner["adapt"] else target.stem
    written = (
        run_folder.first_free(target.with_name(f"{stem}{suffix}"))
        if out is None
        else new_path(out)
    )
    done = conversion.convert_file(
        path, written, format=name, verbose=verbose, **learner
    )
    typer.echo(done)

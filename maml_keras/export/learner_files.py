"""Writes a learner as files that adapt without TensorFlow, and checks them."""

from __future__ import annotations

import contextlib
import itertools
import logging
import pathlib
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import keras

from maml_keras.backend.progress import Bar
from maml_keras.backend.tensorflow_log import hidden
from maml_keras.export import card_file, reading
from maml_keras.export.learner_check import STEPS, Comparison
from maml_keras.export.learner_formats import LearnerFormat
from maml_keras.export.learner_functions import STATEFUL, LearnerFunctions
from maml_keras.export.lowering import NotLoweredError
from maml_keras.export.lowering.values import place

BAD_INPUT = (
    "NaN for empty sets, class numbers out of range, inputs, targets or weights that "
    "are not finite, negative steps or rates, and adaptation that diverges"
)


@dataclass(frozen=True)
class LearnerConversion:
    """Written files, and how their answers compare with the SavedModel's.

    Attributes:
        paths: tuple of `pathlib.Path` of the files.
        format: str, `"onnx"` or `"litert"`.
        runtime: str, the runtime and its version; None if nothing was compared.
        differences: dict, the largest `|file - SavedModel| / max |SavedModel|` by the
            number of steps; empty if nothing was compared.
        learning_rate: float, the rate at which files and SavedModel were compared.
        tolerance: float, the largest difference that was allowed, or None.

    >>> done = LearnerConversion(
    ...     (pathlib.Path("a.onnx"),), "onnx", "ONNX Runtime 1.20", {1: 1e-7}, 0.01,
    ...     1e-4)
    >>> max(done.differences.values()) < done.tolerance
    True
    """

    paths: tuple[pathlib.Path, ...]
    format: str
    runtime: str | None
    differences: dict[int, float]
    learning_rate: float
    tolerance: float | None

    def __str__(self) -> str:
        lines = [f"{path}: {path.stat().st_size:,} bytes" for path in self.paths]
        if self.runtime is None:
            return "\n".join([*lines, "not compared with any runtime"])
        found = ", ".join(f"{d:.1e} after {k}" for k, d in self.differences.items())
        lines.append(
            f"{self.runtime} differs from the SavedModel by {found} steps "
            f"(at most {self.tolerance:.0e} of the largest number)"
        )
        return "\n".join(lines)


def convert_learner(
    source: Any,
    path: pathlib.Path,
    kind: LearnerFormat,
    *,
    support: int | None,
    query: int | None,
    tolerance: float | None,
    verbose: str | int,
    custom_objects: dict[str, Any] | None = None,
) -> LearnerConversion:
    """Writes files that adapt; see `convert`.

    Args:
        source: a `MAML`, or the folder of an export or of a run.
        path: the file to write.
        kind: the format.
        support: int, the number of support examples; None for any number.
        query: int, the number of queries; None for any number.
        tolerance: float, the largest difference; None to write without comparing.
        verbose: 0 for silence, else a progress bar once two seconds have passed.
        custom_objects: as in `keras.saving.load_model`.
    """
    for name, size in (("support", support), ("query", query)):
        if size is not None and (
            isinstance(size, bool) or int(size) != size or size < 1
        ):
            raise ValueError(
                f"`{name}` must be None or an integer, 1 or more. Received: "
                f"{name}={size!r}."
            )
    kind.kind.require(runtime=tolerance is not None)
    # Loading counts as one part, comparing as another.
    parts = itertools.count(1)
    bar = Bar(len(kind.functions) + 2, unit="part", verbose=verbose)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".convert-") as temporary:
        folder = _export(source, pathlib.Path(temporary), custom_objects)
        saved = reading.saved_model(folder)
        _check_export(saved, folder)
        bar.update(next(parts))
        functions = LearnerFunctions(saved, support=support, query=query)
        new = pathlib.Path(temporary) / "files" / path.name
        new.parent.mkdir()
        card = _card(folder, kind, support, query)
        if card.get("inner_loop", {}).get("batch_size"):
            raise ValueError(
                f"{folder.name} cannot learn in the format '{kind.kind.name}': its "
                "inner steps draw parts of the support set at random, and the runtime "
                "has no such random numbers. Serve the SavedModel, or export a model "
                "whose inner loop has no `batch_size`."
            )
        if any(node.op == "Cholesky" for node in _nodes(saved)):
            raise ValueError(
                f"{folder.name} cannot learn in the format '{kind.kind.name}': its "
                "adaptation solves a system of linear equations, such as the ridge "
                "regression of `RidgeHead`, and the runtime has no such operation. "
                "Serve the SavedModel, or convert a network that is adapted already: "
                "`mk.convert(maml.adapt(x, y), path)`."
            )
        try:
            with _quiet():
                written = kind.write(
                    functions, new, card, lambda: bar.update(next(parts))
                )
        except NotLoweredError as error:
            raise ValueError(
                f"{folder.name} cannot learn in the format '{kind.kind.name}'. {error} "
                "Serve the SavedModel, or replace the layer."
            ) from error
        except Exception as error:
            raise ValueError(
                f"{folder.name} could not be written in the format "
                f"'{kind.kind.name}'. {_missing(saved, error)}Serve the SavedModel, or "
                f"replace the layer. ({type(error).__name__}: {_short(error)})"
            ) from error
        differences: dict[int, float] = {}
        rate = float("nan")
        if tolerance is not None:
            differences, rate = _compared(saved, functions, kind, new, tolerance)
        bar.update(next(parts))
        paths = tuple(path.with_name(file.name) for file in written)
        for file, final in zip(written, paths):
            file.replace(final)
    return LearnerConversion(
        paths=paths,
        format=kind.kind.name,
        runtime=None if tolerance is None else kind.kind.version,
        differences=differences,
        learning_rate=rate,
        tolerance=tolerance,
    )


def _compared(
    saved: Any,
    functions: LearnerFunctions,
    kind: LearnerFormat,
    path: pathlib.Path,
    tolerance: float,
) -> tuple[dict[int, float], float]:
    stateful = set(STATEFUL) <= set(kind.functions)
    try:
        comparison = Comparison(saved, functions, kind.open(path), stateful=stateful)
        differences = comparison.differences()
    except Exception as error:
        raise ValueError(
            f"{kind.kind.version} must be able to run the file, and failed. "
            f"{_missing(saved, error)}Serve the SavedModel, or replace the layer. "
            f"({type(error).__name__}: {_short(error)})"
        ) from error
    for steps in STEPS:
        if not differences[steps] <= tolerance:
            raise ValueError(
                f"{kind.kind.version} must answer as the SavedModel does, within "
                f"{tolerance:.0e} of the largest number. Received: a difference of "
                f"{differences[steps]:.1e} after {steps} steps at the learning rate "
                f"{comparison.learning_rate:.3g}. Choose another format, or raise "
                "`tolerance`."
            )
    return differences, comparison.learning_rate


def _export(
    source: Any, temporary: pathlib.Path, custom_objects: dict[str, Any] | None
) -> pathlib.Path:
    """The folder of an export: the given one, that of a run, or a new one."""
    if isinstance(source, (str, pathlib.Path)):
        folder = pathlib.Path(source)
        if (folder / "saved_model.pb").exists():
            return folder
        if (folder / "export" / "saved_model.pb").exists():
            return folder / "export"
        if not (folder / "maml.keras").exists():
            raise FileNotFoundError(
                "`source` must be a MAML, or the folder of an export or of a run. "
                f"Received: {folder}. Make a run with `maml-keras train PRESET`."
            )
        source = reading.network(folder / "maml.keras", custom_objects=custom_objects)
    if not (isinstance(source, keras.Model) and hasattr(source, "learner")):
        raise TypeError(
            "`source` must be a MAML, or the folder of an export or of a run, for a "
            f"file that learns. Received: {type(source).__name__}. With `adapt=False`, "
            "the file of an ordinary model predicts."
        )
    export = temporary / str(source.learner.model.name).replace("/", "_")
    return pathlib.Path(source.export(export, verbose=0))


def _check_export(saved: Any, folder: pathlib.Path) -> None:
    names = ("adapt", "predict_with", "adapt_and_predict", *STATEFUL)
    missing = [name for name in names if not hasattr(saved, name)]
    if missing:
        raise ValueError(
            "`source` must be an export of this library. Received: "
            f"{folder}, without {', '.join(missing)}. Write one with "
            "`maml.export(path)` or `maml-keras export RUN`."
        )


def _card(
    folder: pathlib.Path, kind: LearnerFormat, support: int | None, query: int | None
) -> dict[str, Any]:
    """The export's card, with an entry about the file."""
    card = card_file.read(folder) if (folder / card_file.CARD).exists() else {}
    about = {
        "functions": list(kind.functions),
        "support": support or "any number",
        "query": query or "any number",
        "bad_input": BAD_INPUT,
    }
    return {**card, "file": about}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """A scope without the converters' messages about their own functions."""
    levels = {name: logging.getLogger(name).level for name in ("absl", "tf2onnx")}
    with hidden(below=logging.ERROR):
        try:
            for name in levels:
                logging.getLogger(name).setLevel(logging.ERROR)
            yield
        finally:
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)


def _missing(saved: Any, error: Exception) -> str:
    """The operations that a converter or runtime misses, with their layers."""
    found = re.findall(r"'tf\.(\w+)' op|(\w+) is not a registered", str(error))
    operations = {first or second for first, second in found}
    # LiteRT's interpreter writes the names of operations in capitals.
    failed = set(re.findall(r"failed to delegate (\w+) node", str(error)))
    nodes = _nodes(saved)
    named = []
    for operation in sorted(operations):
        places = {place(node.name) for node in nodes if node.op == operation}
        layers = f" of {' and '.join(map(repr, sorted(places)))}" if places else ""
        named.append(f"Operation {operation}{layers} is missing there. ")
    for operation in sorted({node.op for node in nodes if node.op.upper() in failed}):
        places = {place(node.name) for node in nodes if node.op == operation}
        layers = " or ".join(map(repr, sorted(places)))
        named.append(f"Operation {operation}, which {layers} needs, fails there. ")
    return "".join(named)


def _nodes(saved: Any) -> list[Any]:
    """The operations of an export, those of the functions that it calls included."""
    definition = saved.adapt_and_predict.concrete_functions[0].graph.as_graph_def()
    nodes = [*definition.node]
    for function in definition.library.function:
        nodes += function.node_def
    return nodes


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:300]

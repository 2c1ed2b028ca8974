"""Converts networks to ONNX and LiteRT: files that predict, and files that learn."""

from __future__ import annotations

import pathlib
from typing import Any

import keras

from maml_keras.export import card_file, reading
from maml_keras.export.learner_files import LearnerConversion, convert_learner
from maml_keras.export.learner_formats import LEARNER_FORMATS
from maml_keras.export.predictor_files import Conversion, convert_predictor
from maml_keras.export.runtimes import FORMATS, Format
from maml_keras.learner.learner import Learner
from maml_keras.learner.model_copies import settle


def convert(
    model: Any,
    path: str | pathlib.Path,
    *,
    format: str | None = None,
    adapt: bool = False,
    support: int | None = None,
    query: int | None = None,
    examples: Any = None,
    tolerance: float | None = 1e-4,
    verbose: str | int = "auto",
) -> Conversion | LearnerConversion:
    """Writes a network as ONNX or LiteRT, and compares the runtime with Keras.

    `max |runtime(x) - model(x)| / max |model(x)| <= tolerance`, for all examples at
    once and for the first one alone. Both formats take any number of examples.

    With `adapt=True`, the file learns: it holds the export's functions `adapt`,
    `predict_with` and `adapt_and_predict`, with their arguments, and runs them without
    TensorFlow. A LiteRT file holds `serve`, `fine_tune` and `reset`, too. For ONNX,
    `adapt_and_predict` is in `learner.onnx`, and the other two in `learner.adapt.onnx`
    and `learner.predict_with.onnx`. The answers are compared with the SavedModel's
    after 0, 1 and 3 steps, on random tasks of two sizes.

    Args:
        model: an adapted network, `maml.adapt(...)`, or any built `keras.Model`. For a
            `MAML`, its initialisation with its batch-norm policy is written. With
            `adapt=True`: a `MAML`, or the folder of an export or of a run.
        path: the file to write, ending in `.onnx` or `.tflite`. An existing file is
            replaced.
        format: `"onnx"` or `"litert"`; None for the format of the path's ending.
        adapt: bool, whether the file adapts; otherwise the file only predicts.
        support: int, the number of support examples that an adapting file takes; None
            for any number. Some runtimes want fixed numbers.
        query: int, the number of queries of an adapting file; None for any number.
        examples: inputs `[examples, ...]` to compare on. None for random inputs:
            normal floats, and integers 0 and 1. Required if the model does not tell
            the shape of its inputs.
        tolerance: float; None to write without comparing, if the runtime is not
            installed.
        verbose: 0 for silence, else a progress bar once two seconds have passed.

    Returns:
        A `Conversion`, or a `LearnerConversion` for `adapt=True`; its `str()` states
        the differences.

    Raises:
        FileNotFoundError: if a folder holds neither an export nor a run.
        ImportError: if a package is missing; the message says what to install.
        TypeError: if `model` is not a model.
        ValueError: if the format is unknown, the format cannot hold the network, or
            the runtime's predictions differ by more than `tolerance`. Nothing is
            written then.

    >>> import tempfile
    >>> model = keras.Sequential([keras.Input([3]), keras.layers.Dense(2)])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     done = convert(model, f"{folder}/tuned.onnx")
    >>> done.format, done.difference < 1e-5
    ('onnx', True)
    """
    if adapt:
        if examples is not None:
            raise ValueError(
                "`examples` are the inputs on which a predictor is compared. Received: "
                "`examples` with `adapt=True`, which compares on random tasks. Leave "
                "one of them out."
            )
        sizes = {"support": support, "query": query}
        return _learner(model, path, format, sizes, tolerance, verbose)
    _check_no_sizes({"support": support, "query": query})
    if not isinstance(model, keras.Model):
        raise TypeError(
            f"`model` must be a keras.Model. Received: {type(model).__name__}. To "
            "convert a file or an export, call `mk.export.convert_file` or "
            "`maml-keras export SOURCE --format onnx`."
        )
    _check_not_prepared(model.name, getattr(model, "preparation", None))
    # A `MAML` has a learner; this wing does not know the class.
    subject = getattr(model, "learner", model)
    path = pathlib.Path(path)
    kind = _format(format, path)
    return convert_predictor(subject, path, kind, examples, tolerance, verbose)


def convert_file(
    source: str | pathlib.Path,
    path: str | pathlib.Path,
    *,
    format: str | None = None,
    tolerance: float | None = 1e-4,
    verbose: str | int = "auto",
    custom_objects: dict[str, Any] | None = None,
    adapt: bool = False,
    support: int | None = None,
    query: int | None = None,
) -> Conversion | LearnerConversion:
    """Converts a saved network; see `convert`.

    Args:
        source: a `.keras` file, or the folder of an export or of a run. For a folder,
            the initialisation is converted.
        path: the file to write.
        format: as for `convert`.
        tolerance: as for `convert`.
        verbose: as for `convert`.
        custom_objects: as in `keras.saving.load_model`.
        adapt: as for `convert`.
        support: as for `convert`.
        query: as for `convert`.

    Raises:
        FileNotFoundError: if `source` holds no network.
        ValueError: as for `convert`, or if a SavedModel is not an export.

    >>> convert_file("nowhere", "a.onnx")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    FileNotFoundError: `source` must be a .keras file, or the folder of an export ...
    """
    source = pathlib.Path(source)
    sizes = {"support": support, "query": query}
    if adapt:
        return _learner(source, path, format, sizes, tolerance, verbose, custom_objects)
    _check_no_sizes(sizes)
    if (source / "maml.keras").exists():
        source = source / "maml.keras"
    if source.suffix == ".keras" and source.exists():
        subject = reading.network(source, custom_objects=custom_objects)
        return convert(
            subject, path, format=format, tolerance=tolerance, verbose=verbose
        )
    if not (source / "saved_model.pb").exists():
        raise FileNotFoundError(
            "`source` must be a .keras file, or the folder of an export or of a run. "
            f"Received: {source}. Make a run with `maml-keras train PRESET`, or adapt "
            "a run with `maml-keras adapt RUN --data FILE --out adapted.keras`."
        )
    path = pathlib.Path(path)
    kind = _format(format, path)
    learner = _exported(source, custom_objects)
    return convert_predictor(learner, path, kind, None, tolerance, verbose)


def _learner(
    source: Any,
    path: str | pathlib.Path,
    format: str | None,
    sizes: dict[str, int | None],
    tolerance: float | None,
    verbose: str | int,
    custom_objects: dict[str, Any] | None = None,
) -> LearnerConversion:
    path = pathlib.Path(path)
    return convert_learner(
        source,
        path,
        LEARNER_FORMATS[_format(format, path).name],
        **sizes,
        tolerance=tolerance,
        verbose=verbose,
        custom_objects=custom_objects,
    )


def _check_no_sizes(sizes: dict[str, int | None]) -> None:
    if any(size is not None for size in sizes.values()):
        given = ", ".join(f"{name}={size}" for name, size in sizes.items())
        raise ValueError(
            "`support` and `query` are sizes of a file that adapts. Received: "
            f"{given} without `adapt=True`."
        )


def _check_not_prepared(name: str, preparation: Any) -> None:
    """Refuses a network that a file would part from its preparation."""
    if preparation is not None:
        raise ValueError(
            "The initialisation must take raw data to be converted. Received: "
            f"'{name}', whose network takes prepared inputs. Write a SavedModel with "
            "`maml.export(path)`, or convert an adapted model, `maml.adapt(data)` or "
            "`mk.fine_tune(export, data)`, which holds the preparation."
        )


def _exported(folder: pathlib.Path, custom_objects: dict[str, Any] | None) -> Learner:
    """The initialisation in an export, with its batch-norm policy."""
    saved = reading.load(folder)
    card = card_file.read_complete(folder)
    _check_not_prepared(str(folder), card.get("preparation"))
    model = reading.network(folder / "learner.keras", custom_objects=custom_objects)
    reading.freeze(model, card)
    learner = Learner(
        model,
        batch_norm=reading.batch_norm(card, custom_objects),
        steps=card["inner_loop"]["steps"],
    )
    values = [*saved.trainable_variables, *saved.non_trainable_variables]
    for variable, value in zip(
        [*learner.variables, *learner.state_variables], values, strict=True
    ):
        variable.assign(value)
    settle(learner.model)
    return learner


def _format(name: str | None, path: pathlib.Path) -> Format:
    by_suffix = {f.suffix: f.name for f in FORMATS.values()}
    name = by_suffix.get(path.suffix) if name is None else name
    if name is None:
        raise ValueError(
            f"`path` must end in {' or '.join(by_suffix)}. Received: {path}."
        )
    if name not in FORMATS:
        raise ValueError(
            f"`format` must be one of {sorted(FORMATS)}. Received: {name!r}. To write "
            "a SavedModel, call `maml.export(path)`."
        )
    kind = FORMATS[name]
    if path.suffix != kind.suffix:
        raise ValueError(
            f"`path` must end in {kind.suffix} for the format '{name}'. Received: "
            f"{path}."
        )
    return kind

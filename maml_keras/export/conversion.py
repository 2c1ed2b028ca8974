"""Writes a network as ONNX or LiteRT, and compares that runtime with Keras."""

from __future__ import annotations

import pathlib
import tempfile
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from maml_keras.backend.progress import Bar
from maml_keras.backend.tensorflow_log import without_announcements
from maml_keras.export import card_file, reading
from maml_keras.export.learner_files import LearnerConversion, convert_learner
from maml_keras.export.learner_formats import LEARNER_FORMATS
from maml_keras.export.runtimes import FORMATS, Format
from maml_keras.learner.learner import Learner
from maml_keras.learner.model_copies import settle

# Random examples on which runtime and Keras are compared.
EXAMPLES = 8


@dataclass(frozen=True)
class Conversion:
    """A written file, and how its runtime's predictions compare with Keras's.

    Attributes:
        path: `pathlib.Path` of the file.
        format: str, `"onnx"` or `"litert"`.
        runtime: str, the runtime and its version; None if nothing was compared.
        examples: int, number of compared examples.
        difference: float, the largest `|runtime - keras| / max |keras|` of an output.
        tolerance: float, the largest difference that was allowed; None if nothing was
            compared.
    """

    path: pathlib.Path
    format: str
    runtime: str | None
    examples: int
    difference: float
    tolerance: float | None

    def __str__(self) -> str:
        size = f"{self.path.stat().st_size:,} bytes"
        if self.runtime is None:
            return f"{self.path}: {size}; not compared with any runtime"
        return (
            f"{self.path}: {size}; {self.runtime} differs from Keras by "
            f"{self.difference:.1e} of the largest output, on {self.examples} examples "
            f"and on one (at most {self.tolerance:.0e})"
        )


class Initialisation(keras.Model):
    """A learner before its first step, with the learner's batch-norm policy.

    Under the transductive policy nothing updates the moving statistics, so an ordinary
    network would normalise by their initial values. This model follows the policy and
    normalises by its input batch.

    Args:
        learner: the learner, whose variables this model shares.
    """

    def __init__(self, learner: Learner) -> None:
        super().__init__(name=learner.model.name)
        self.network = learner.model
        self.policy_variables = [
            *learner.batch_norm.learned(),
            *learner.batch_norm.statistics(),
        ]
        self._answer = learner.answer
        self._values = learner.weights, learner.state
        self.built = True

    def call(self, x: Any, training: bool = False) -> Any:
        """Predictions on inputs `[examples, ...]`."""
        weights, state = (read() for read in self._values)
        return self._answer(weights, state, x, training=False, step=0).predictions


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
        path = pathlib.Path(path)
        return convert_learner(
            model,
            path,
            LEARNER_FORMATS[_format(format, path).name],
            support=support,
            query=query,
            tolerance=tolerance,
            verbose=verbose,
        )
    if support is not None or query is not None:
        raise ValueError(
            "`support` and `query` are sizes of a file that adapts. Received: "
            f"support={support}, query={query} without `adapt=True`."
        )
    if not isinstance(model, keras.Model):
        raise TypeError(
            f"`model` must be a keras.Model. Received: {type(model).__name__}. To "
            "convert a file or an export, call `mk.export.convert_file` or "
            "`maml-keras export SOURCE --format onnx`."
        )
    _check_not_prepared(model.name, getattr(model, "preparation", None))
    # A `MAML` has a learner; this wing does not know the class.
    subject = getattr(model, "learner", model)
    return _converted(subject, path, format, examples, tolerance, verbose)


def convert_file(
    source: str | pathlib.Path,
    path: str | pathlib.Path,
    *,
    format: str | None = None,
    tolerance: float | None = 1e-4,
    verbose: str | int = "auto",
    custom_objects: dict[str, Any] | None = None,
    adapt: bool = False,
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

    Raises:
        FileNotFoundError: if `source` holds no network.
        ValueError: as for `convert`, or if a SavedModel is not an export.
    """
    source = pathlib.Path(source)
    if adapt:
        path = pathlib.Path(path)
        return convert_learner(
            source,
            path,
            LEARNER_FORMATS[_format(format, path).name],
            support=None,
            query=None,
            tolerance=tolerance,
            verbose=verbose,
            custom_objects=custom_objects,
        )
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
    return _converted(
        _exported(source, custom_objects), path, format, None, tolerance, verbose
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


def _converted(
    subject: keras.Model | Learner,
    path: str | pathlib.Path,
    format: str | None,
    examples: Any,
    tolerance: float | None,
    verbose: str | int,
) -> Conversion:
    path = pathlib.Path(path)
    bar = Bar(2, unit="part", verbose=verbose)  # Two parts: writing and comparing.
    kind = _format(format, path)
    kind.require(runtime=tolerance is not None)
    if isinstance(subject, Learner):
        model, network = subject.model, Initialisation(subject)
    else:
        model = network = subject
    specs = _specs(model, examples)
    _check_no_text(model.name, kind.name, specs)
    x = _random(model, specs) if examples is None else _fitting(examples, specs)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Written into a temporary folder, and renamed after the comparison: a reader only
    # finds a file that was compared.
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".convert-") as folder:
        new = pathlib.Path(folder) / path.name
        try:
            with without_announcements():
                kind.write(network, specs, new)
        except Exception as error:
            raise ValueError(
                f"Model '{model.name}' could not be written in the format "
                f"'{kind.name}'. {kind.limits} "
                f"({type(error).__name__}: {_first_line(error)})"
            ) from error
        bar.update(1)
        difference = float("nan")
        if tolerance is not None:
            try:
                difference = _difference(network, kind, new, specs, x)
            except Exception as error:
                raise ValueError(
                    f"{kind.version} must be able to run the file of model "
                    f"'{model.name}', and failed. {kind.limits} "
                    f"({type(error).__name__}: {_first_line(error)})"
                ) from error
            if not difference <= tolerance:
                raise ValueError(
                    f"{kind.version} must predict as Keras does, within "
                    f"{tolerance:.0e} of the largest output. Received: a difference "
                    f"of {difference:.1e} for model '{model.name}'. Choose another "
                    "format, pass your own `examples` if random inputs do not suit the "
                    "model, or raise `tolerance`."
                )
        new.replace(path)
    bar.update(2)
    return Conversion(
        path=path,
        format=kind.name,
        runtime=None if tolerance is None else kind.version,
        examples=0 if tolerance is None else len(keras.tree.flatten(x)[0]),
        difference=difference,
        tolerance=tolerance,
    )


def _difference(
    network: keras.Model, kind: Format, path: pathlib.Path, specs: Any, x: Any
) -> float:
    """The largest difference of an output, for all examples and for the first alone."""
    flat, worst = keras.tree.flatten(specs), []
    for some in (x, keras.tree.map_structure(lambda a: a[:1], x)):
        expected = network(some, training=False)
        outputs = keras.tree.flatten_with_path(expected)
        names = ["_".join(map(str, place)) for place, _ in outputs]
        inputs = {s.name: x for s, x in zip(flat, keras.tree.flatten(some))}
        found = kind.run(path, inputs, names)
        for a, (_, b) in zip(found, outputs, strict=True):
            worst.append(_relative(a, np.asarray(b)))
    return float(np.max(worst))


def _relative(found: Any, expected: Any) -> float:
    if np.shape(found) != expected.shape:
        return float("inf")
    scale = np.abs(expected).max() or 1.0
    return float(np.abs(found - expected).max() / scale)


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


def _check_no_text(name: str, format: str, specs: Any) -> None:
    """Refuses inputs of text, which neither ONNX nor LiteRT can look up."""
    texts = [spec.name for spec in keras.tree.flatten(specs) if spec.dtype == tf.string]
    if texts:
        raise ValueError(
            f"Inputs must be numbers in the format '{format}'. Received: '{name}', "
            f"which takes text in {', '.join(texts)}. Write a SavedModel with "
            "`maml.export(path)` or `model.export(path)`, or train with numbers in "
            "place of the names."
        )


def _specs(model: keras.Model, examples: Any) -> Any:
    """Specs of the inputs for any number of examples, named as in the file."""
    try:
        # A Sequential model has no `input` before it is called.
        sequential = isinstance(model, keras.Sequential)
        inputs = model.inputs[0] if sequential else model.input
    except (AttributeError, TypeError, ValueError) as error:
        if examples is None:
            raise ValueError(
                f"Model '{model.name}' does not tell the shape of its inputs. Pass "
                "`examples`: inputs [examples, ...] on which to compare."
            ) from error
        inputs = keras.tree.map_structure(keras.ops.convert_to_tensor, examples)
    leaves = keras.tree.flatten_with_path(inputs)
    named = [
        tf.TensorSpec([None, *leaf.shape[1:]], leaf.dtype, _input_name(path))
        for path, leaf in leaves
    ]
    return keras.tree.pack_sequence_as(inputs, named)


def _input_name(path: tuple[Any, ...]) -> str:
    """`x` for a single input, `x_` with the key or number for several.

    >>> [_input_name(path) for path in [(), ("picture",), (0,)]]
    ['x', 'x_picture', 'x_0']
    """
    return "_".join(["x", *map(str, path)])


def _random(model: keras.Model, specs: Any) -> Any:
    """Random inputs for these specs, the same in every call."""
    generator = np.random.default_rng(0)

    def draw(spec: tf.TensorSpec) -> Any:
        if None in spec.shape[1:]:
            raise ValueError(
                f"Model '{model.name}' takes inputs of any size along an axis: "
                f"{spec.shape}. Pass `examples` of a size that the model meets in use."
            )
        shape = [EXAMPLES, *spec.shape[1:]]
        if spec.dtype.is_floating:
            return generator.normal(size=shape).astype(spec.dtype.as_numpy_dtype)
        return generator.integers(0, 2, shape).astype(spec.dtype.as_numpy_dtype)

    return keras.tree.map_structure(draw, specs)


def _fitting(examples: Any, specs: Any) -> Any:
    keras.tree.assert_same_structure(specs, examples)

    def fit(spec: tf.TensorSpec, array: Any) -> Any:
        array = np.asarray(array)
        if not spec.shape.is_compatible_with(array.shape):
            raise ValueError(
                f"`examples` must have shape {spec.shape} for the input '{spec.name}', "
                f"with any number of examples for None. Received: {array.shape}."
            )
        if not len(array):
            raise ValueError(
                "`examples` must hold at least one example. Received: none."
            )
        return array.astype(spec.dtype.as_numpy_dtype)

    return keras.tree.map_structure(fit, specs, examples)


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0][:200]

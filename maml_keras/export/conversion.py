"""A network for runtimes without TensorFlow, compared with them as it is written."""

from __future__ import annotations

import pathlib
import tempfile
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from maml_keras.backend.progress import Bar
from maml_keras.export import reading
from maml_keras.export.runtimes import FORMATS, Format
from maml_keras.learner.learner import Learner
from maml_keras.learner.model_copies import settle

# How many random examples the runtime is asked for.
EXAMPLES = 8


@dataclass(frozen=True)
class Conversion:
    """A file that was written, and how its runtime's answers compare with Keras's.

    Attributes:
        path: `pathlib.Path` of the file.
        format: str, `"onnx"` or `"litert"`.
        runtime: str, the runtime and its version; None if nothing was compared.
        examples: int, how many were compared.
        difference: float, the largest `|runtime - keras| / max |keras|` of an output.
        tolerance: float, what it had to stay within.
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
    """A learner as it predicts before any step, batch norm by its policy.

    Under the transductive policy an ordinary network would normalise by moving
    statistics that nothing ever moved; this one normalises by the batch it is given.

    Args:
        learner: the learner. Its variables are used as they are.
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
    model: keras.Model,
    path: str | pathlib.Path,
    *,
    format: str | None = None,
    examples: Any = None,
    tolerance: float | None = 1e-4,
    verbose: str | int = "auto",
) -> Conversion:
    """Writes a network as ONNX or LiteRT, and compares that runtime with Keras.

    `max |runtime(x) - model(x)| / max |model(x)| <= tolerance`, for all examples at
    once and for the first one alone. Both formats take any number of examples, and
    predict only: adaptation is the SavedModel's, `MAML.export`.

    Args:
        model: an adapted network, `maml.adapt(...)`, or any built `keras.Model`; of a
            `MAML` its initialisation, which normalises as its batch-norm policy says.
        path: the file to write, ending in `.onnx` or `.tflite`. One that is there is
            replaced.
        format: `"onnx"` or `"litert"`; None: by the path.
        examples: inputs `[examples, ...]` to compare on. None: random ones, normal
            floats and integers 0 and 1; a model must be given some if it does not say
            what shape it takes.
        tolerance: float; None to write without comparing, where the runtime is not
            installed.
        verbose: 0 for silence, else a progress bar once two seconds have passed.

    Returns:
        A `Conversion`; `str()` of it says how large the difference was.

    Raises:
        ImportError: if a package is missing, with what to install.
        TypeError: if `model` is no model.
        ValueError: if the format is not known, the network has no form in it, or the
            runtime's answers differ by more than `tolerance`; nothing is written then.

    >>> import tempfile
    >>> model = keras.Sequential([keras.Input([3]), keras.layers.Dense(2)])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     done = convert(model, f"{folder}/tuned.onnx")
    >>> done.format, done.difference < 1e-5
    ('onnx', True)
    """
    if not isinstance(model, keras.Model):
        raise TypeError(
            f"`model` must be a keras.Model. Received: {type(model).__name__}. A file "
            "or an export is converted by `mk.export.convert_file` or "
            "`maml-keras export SOURCE --format onnx`, or after `mk.to_keras(source)`."
        )
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
) -> Conversion:
    """As `convert`, from what a network was saved in.

    Args:
        source: a `.keras` file, or the folder of an export or of a run, whose
            initialisation is converted.
        path: the file to write.
        format: as for `convert`.
        tolerance: as for `convert`.
        verbose: as for `convert`.
        custom_objects: as in `keras.saving.load_model`.

    Raises:
        FileNotFoundError: if there is no network.
        ValueError: as for `convert`, or if a SavedModel is no export.
    """
    source = pathlib.Path(source)
    if (source / "maml.keras").exists():
        source = source / "maml.keras"
    if source.suffix == ".keras" and source.exists():
        subject = reading.network(source, custom_objects=custom_objects)
        return convert(
            subject, path, format=format, tolerance=tolerance, verbose=verbose
        )
    if not (source / "saved_model.pb").exists():
        raise FileNotFoundError(
            "A network must be a .keras file, or the folder of an export or of a run. "
            f"Received: {source}. Make a run with `maml-keras train PRESET`, or adapt "
            "one with `maml-keras adapt RUN --data FILE --out adapted.keras`."
        )
    return _converted(
        _exported(source, custom_objects), path, format, None, tolerance, verbose
    )


def _exported(folder: pathlib.Path, custom_objects: dict[str, Any] | None) -> Learner:
    """The initialisation that an export holds, with its batch-norm policy."""
    saved = reading.load(folder)
    card = reading.card(folder)
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
    bar = Bar(2, unit="part", verbose=verbose)  # Written, and compared.
    kind = _format(format, path)
    kind.require(runtime=tolerance is not None)
    if isinstance(subject, Learner):
        model, network = subject.model, Initialisation(subject)
    else:
        model = network = subject
    specs = _specs(model, examples)
    x = _random(model, specs) if examples is None else _fitting(examples, specs)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Written beside it and moved when it is right: a reader finds no other.
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".convert-") as folder:
        new = pathlib.Path(folder) / path.name
        try:
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
                    f"{kind.version} must run what was written of model "
                    f"'{model.name}', and does not. {kind.limits} "
                    f"({type(error).__name__}: {_first_line(error)})"
                ) from error
            if not difference <= tolerance:
                raise ValueError(
                    f"{kind.version} must answer as Keras does, within "
                    f"{tolerance:.0e} of the largest output. Received: a difference "
                    f"of {difference:.1e} for model '{model.name}'. Take another "
                    "format, pass `examples` of your own if random ones are outside "
                    "of what the model takes, or accept it by `tolerance`."
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
    """The largest difference of an output, of all examples at once and of one."""
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
            f"`format` must be one of {sorted(FORMATS)}. Received: {name!r}. A "
            "SavedModel is written by `maml.export(path)`."
        )
    kind = FORMATS[name]
    if path.suffix != kind.suffix:
        raise ValueError(
            f"`path` must end in {kind.suffix} for the format '{name}'. Received: "
            f"{path}."
        )
    return kind


def _specs(model: keras.Model, examples: Any) -> Any:
    """Specs of the inputs, any number of examples, named for the file's inputs."""
    try:
        # A Sequential model has no `input` before it is called.
        sequential = isinstance(model, keras.Sequential)
        inputs = model.inputs[0] if sequential else model.input
    except (AttributeError, TypeError, ValueError) as error:
        if examples is None:
            raise ValueError(
                f"Model '{model.name}' does not tell the shape of its inputs. Pass "
                "`examples`, inputs [examples, ...] to compare on."
            ) from error
        inputs = keras.tree.map_structure(keras.ops.convert_to_tensor, examples)
    leaves = keras.tree.flatten_with_path(inputs)
    named = [
        tf.TensorSpec([None, *leaf.shape[1:]], leaf.dtype, _input_name(path))
        for path, leaf in leaves
    ]
    return keras.tree.pack_sequence_as(inputs, named)


def _input_name(path: tuple[Any, ...]) -> str:
    """`x`; of several inputs `x_` and the key or number.

    >>> [_input_name(path) for path in [(), ("picture",), (0,)]]
    ['x', 'x_picture', 'x_0']
    """
    return "_".join(["x", *map(str, path)])


def _random(model: keras.Model, specs: Any) -> Any:
    """Inputs of these specs, the same every time."""
    generator = np.random.default_rng(0)

    def draw(spec: tf.TensorSpec) -> Any:
        if None in spec.shape[1:]:
            raise ValueError(
                f"Model '{model.name}' takes inputs of any size along an axis: "
                f"{spec.shape}. Pass `examples` of a size that it meets."
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
                f"None standing for any number of examples. Received: {array.shape}."
            )
        if not len(array):
            raise ValueError("`examples` must hold an example. Received: none.")
        return array.astype(spec.dtype.as_numpy_dtype)

    return keras.tree.map_structure(fit, specs, examples)


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0][:200]

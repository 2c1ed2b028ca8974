"""Writes a network as a file that predicts, and compares its runtime with Keras."""

from __future__ import annotations

import pathlib
import tempfile
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from maml_keras.backend.progress import Bar
from maml_keras.backend.tensorflow_log import without_announcements
from maml_keras.export.predictor_inputs import (
    check_no_text,
    fitting_inputs,
    input_specs,
    random_inputs,
)
from maml_keras.export.runtimes import Format
from maml_keras.learner.learner import Learner


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

    >>> path = pathlib.Path("a.onnx")
    >>> done = Conversion(path, "onnx", "ONNX Runtime 1.20", 8, 1e-7, 1e-4)
    >>> done.difference < done.tolerance
    True
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


def convert_predictor(
    subject: keras.Model | Learner,
    path: pathlib.Path,
    kind: Format,
    examples: Any,
    tolerance: float | None,
    verbose: str | int,
) -> Conversion:
    """Writes a file that predicts; see `convert`.

    Args:
        subject: a network, or a learner, whose initialisation is written.
        path: the file to write.
        kind: the format.
        examples: inputs `[examples, ...]` to compare on; None for random inputs.
        tolerance: float, the largest difference; None to write without comparing.
        verbose: 0 for silence, else a progress bar once two seconds have passed.
    """
    bar = Bar(2, unit="part", verbose=verbose)  # Two parts: writing and comparing.
    kind.require(runtime=tolerance is not None)
    if isinstance(subject, Learner):
        model, network = subject.model, Initialisation(subject)
    else:
        model = network = subject
    specs = input_specs(model, examples)
    check_no_text(model.name, kind.name, specs)
    x = (
        random_inputs(model, specs)
        if examples is None
        else fitting_inputs(examples, specs)
    )
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


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0][:200]

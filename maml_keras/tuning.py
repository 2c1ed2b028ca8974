"""An export adapted to one task that lies in a file."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from maml_keras.learner import Learner


def adapt_file(
    export: str | pathlib.Path,
    data: str | pathlib.Path,
    *,
    steps: int = 10,
    learning_rate: float | None = None,
    out: str | pathlib.Path | None = None,
) -> str:
    """Adapts an exported initialisation to the examples of an `.npz` file.

    Args:
        export: folder of the export. It is not changed.
        data: file with arrays `x` and `y` `[examples, ...]`, and optionally `query_x`
            and `query_y`.
        steps: int, gradient steps.
        learning_rate: float; None for the inner loop's own.
        out: None, or the `.keras` file to write the adapted network to.

    Returns:
        A table: the loss, and for class labels the accuracy, before and after.

    Raises:
        FileNotFoundError: if `export` or `data` is not there.
        ValueError: if the arrays do not fit the export.
    """
    export, data = pathlib.Path(export), pathlib.Path(data)
    arrays = _arrays(data)
    if not (export / "saved_model.pb").exists():
        raise FileNotFoundError(
            f"`export` must be a folder with a SavedModel. Received: {export}. Make "
            "one with `maml-keras export RUN`."
        )
    saved = tf.saved_model.load(str(export))
    signature = saved.signatures["adapt_and_predict"].structured_input_signature[1]
    arrays = _fitting(arrays, signature["support_x"], signature["support_y"])
    rate = () if learning_rate is None else (float(learning_rate),)
    before = _measured(saved, arrays)
    saved.fine_tune(arrays["x"], arrays["y"], steps, *rate)  # In memory only.
    after = _measured(saved, arrays)
    lines = [f"{'examples':>10}  {'step 0':>10}  {f'step {steps}':>10}"]
    lines += [
        f"{label:>10}  {before[label, name]:>10.4g}  {value:>10.4g}  {name}"
        for (label, name), value in after.items()
    ]
    if out is not None:
        _write_adapted(export, saved, arrays["x"], pathlib.Path(out))
        lines.append(f"adapted network: {out}")
    return "\n".join(lines)


def _arrays(path: pathlib.Path) -> dict[str, Any]:
    if not path.exists():
        raise FileNotFoundError(
            f"`--data` must be an .npz file with arrays x and y. Received: {path}, "
            "which does not exist."
        )
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (ValueError, OSError, AttributeError) as error:
        raise ValueError(
            f"`--data` must be an .npz file with arrays x and y. Received: {path}, "
            "which numpy cannot read. Write it with `numpy.savez(path, x=x, y=y)`."
        ) from error
    if not {"x", "y"} <= set(arrays):
        raise ValueError(
            f"`--data` must hold arrays x and y. Received: {sorted(arrays)}."
        )
    return arrays


def _fitting(arrays: dict[str, Any], x_spec: Any, y_spec: Any) -> dict[str, Any]:
    fitted = {}
    for name, array in arrays.items():
        spec = x_spec if name.endswith("x") else y_spec
        if array.ndim == 0 or not spec.shape.is_compatible_with(array.shape):
            raise ValueError(
                f"Array `{name}` must have shape {spec.shape}, None standing for any "
                f"number of examples. Received: {array.shape}."
            )
        if len(array) == 0:
            raise ValueError(f"Array `{name}` must hold an example. Received: none.")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ValueError(f"Array `{name}` must be finite. Received: NaN or inf.")
        fitted[name] = array.astype(spec.dtype.as_numpy_dtype)
    if len(fitted["x"]) != len(fitted["y"]):
        raise ValueError(
            f"Arrays x and y must have as many examples. Received: {len(fitted['x'])} "
            f"and {len(fitted['y'])}."
        )
    return fitted


def _measured(saved: Any, arrays: dict[str, Any]) -> dict[tuple[str, str], float]:
    """The metric of the export's present weights, by whose examples and name."""
    sets = {"yours": ("x", "y"), "query": ("query_x", "query_y")}
    return {
        (label, name): value
        for label, (x, y) in sets.items()
        if x in arrays and y in arrays
        for name, value in [_metric(arrays[y], np.asarray(saved.serve(arrays[x])))]
    }


def _metric(y: Any, predictions: Any) -> tuple[str, float]:
    if y.dtype.kind not in "iu":
        return "mean squared error", float(np.mean(np.square(predictions - y)))
    width = int(predictions.shape[-1])
    if y.min() < 0 or y.max() >= width:
        raise ValueError(
            f"Labels must be 0..{width - 1}. Received: {int(y.min())}..{int(y.max())}."
        )
    return "accuracy", float(np.mean(np.argmax(predictions, axis=-1) == y))


def _write_adapted(export: pathlib.Path, saved: Any, x: Any, out: pathlib.Path) -> None:
    if out.suffix != ".keras":
        raise ValueError(f"`--out` must end in .keras. Received: {out}.")
    card = json.loads((export / "card.json").read_text(encoding="utf-8"))
    model = keras.saving.load_model(export / "learner.keras", compile=False)
    learner = Learner(model, batch_norm=card["batch_norm"])
    for variable, value in zip(learner.variables, saved.trainable_variables):
        variable.assign(value)
    if learner.batch_norm.uses_batch_statistics(training=False):
        # An ordinary model predicts with moving statistics: the support set's.
        state = learner.batch_statistics(
            learner.weights(), learner.state(), tf.constant(x)
        )
        for variable, value in zip(learner.state_variables, state):
            variable.assign(value)
    out.parent.mkdir(parents=True, exist_ok=True)
    model.save(out)

"""The learned initialisation as a SavedModel that needs only TensorFlow."""

from __future__ import annotations

import json
import pathlib
import platform
import shutil
import tempfile
from importlib import metadata
from typing import Any

import keras
import tensorflow as tf

from maml_keras.inner import InnerLoop
from maml_keras.learner import Learner


def write(
    learner: Learner,
    inner: InnerLoop,
    path: str | pathlib.Path,
    *,
    input_signature: Any = None,
    card: dict[str, Any] | None = None,
) -> pathlib.Path:
    """Writes the SavedModel, `learner.keras` and `card.json` to one folder.

    Args:
        learner: the model whose weights are the initialisation.
        inner: the inner loop that `adapt` and `fine_tune` run.
        path: the folder. An earlier export there is replaced; anything else is not.
        input_signature: None, or `(x, y)`, nests of `tf.TensorSpec` with None for the
            number of examples, where the model's own inputs do not say.
        card: dict, what else the card should say.

    Returns:
        The folder.

    Raises:
        ValueError: if the model does not tell its input shape.
        FileExistsError: if the folder holds something that is no export.
    """
    path = pathlib.Path(path)
    _check_replaceable(path)
    root = _saved_functions(learner, inner, *_signature(learner, inner, input_signature))
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=path.name) as folder:
        new = pathlib.Path(folder) / path.name
        signatures = {
            "serving_default": root.serve,
            "adapt_and_predict": root.adapt_and_predict,
        }
        tf.saved_model.save(root, str(new), signatures=signatures)
        learner.model.save(new / "learner.keras")
        text = json.dumps(_card(learner, inner, card or {}), indent=2)
        (new / "card.json").write_text(text + "\n", encoding="utf-8")
        if path.exists():
            shutil.rmtree(path)
        # Written whole or not at all: a reader never finds half an export.
        shutil.move(new, path)
    return path


def _saved_functions(
    learner: Learner, inner: InnerLoop, x_spec: Any, y_spec: Any
) -> tf.Module:
    """A module whose functions read and change variables of its own."""
    root = tf.Module(name="maml_keras_export")
    theta = [
        tf.Variable(w, name=v.name, trainable=True)
        for w, v in zip(learner.weights(), learner.variables)
    ]
    state = [tf.Variable(s, trainable=False) for s in learner.state()]
    names = _names(learner)
    chosen = inner.adapt_selector.select(learner.model)
    default_steps = max(inner.steps, 1)
    default_rate = float(getattr(inner.rule, "learning_rate", 0.0))
    scalars = [tf.TensorSpec([], tf.int32), tf.TensorSpec([], tf.float32)]
    support = [x_spec, y_spec, *scalars]
    weights_spec = {
        name: tf.TensorSpec(v.shape, v.dtype)
        for name, v, c in zip(names, theta, chosen)
        if c
    }

    def adapted(x: Any, y: Any, steps: Any, learning_rate: Any) -> list[Any]:
        start = [tf.convert_to_tensor(v) for v in theta]
        values = [tf.convert_to_tensor(s) for s in state]
        return inner.adapt(
            learner, start, values, x, y, steps=steps, learning_rate=learning_rate
        ).weights

    def predicted(weights: list[Any], x: Any) -> Any:
        values = [tf.convert_to_tensor(s) for s in state]
        return learner(weights, values, x, training=False).predictions

    def serve(x: Any) -> Any:
        return predicted([tf.convert_to_tensor(v) for v in theta], x)

    def adapt(
        support_x: Any,
        support_y: Any,
        steps: Any = default_steps,
        learning_rate: Any = default_rate,
    ) -> Any:
        weights = adapted(support_x, support_y, steps, learning_rate)
        return {n: w for n, w, c in zip(names, weights, chosen) if c}

    def predict_with(weights: Any, x: Any) -> Any:
        merged = [
            weights[n] if c else tf.convert_to_tensor(v)
            for n, v, c in zip(names, theta, chosen)
        ]
        return predicted(merged, x)

    def adapt_and_predict(
        support_x: Any,
        support_y: Any,
        query_x: Any,
        steps: Any = default_steps,
        learning_rate: Any = default_rate,
    ) -> Any:
        weights = adapted(support_x, support_y, steps, learning_rate)
        return predicted(weights, query_x)

    def fine_tune(
        x: Any,
        y: Any,
        steps: Any = default_steps,
        learning_rate: Any = default_rate,
    ) -> Any:
        weights = adapted(x, y, steps, learning_rate)
        for variable, value in zip(theta, weights):
            variable.assign(value)
        return inner.loss(y, predicted(weights, x))

    initial = _Initialisation(theta)
    functions = {
        "serve": (serve, [x_spec]),
        "adapt": (adapt, support),
        "predict_with": (predict_with, [weights_spec, x_spec]),
        "adapt_and_predict": (adapt_and_predict, [x_spec, y_spec, x_spec, *scalars]),
        "fine_tune": (fine_tune, support),
        "reset": (initial.restore, []),
    }
    for name, (function, specs) in functions.items():
        compiled = tf.function(function, input_signature=specs, autograph=False)
        setattr(root, name, compiled)
    # A SavedModel keeps attributes, not the properties of tf.Module: a plain list.
    root.__dict__["_theta"] = None
    _keep(root, "theta", theta)
    _keep(root, "state", state)
    root.initial = initial
    return _Root(root, functions, theta, state, initial)


class _Root(tf.__internal__.tracking.AutoTrackable):  # type: ignore[name-defined]
    pass


def _signature(learner: Learner, inner: InnerLoop, given: Any) -> tuple[Any, Any]:
    return given


def _check_replaceable(path: pathlib.Path) -> None:
    return None


def _names(learner: Learner) -> list[str]:
    return [v.path for v in learner.variables]


def _card(learner: Learner, inner: InnerLoop, card: dict[str, Any]) -> dict[str, Any]:
    return {}

"""Arguments and results of an export's functions: names, shapes and types."""

from __future__ import annotations

import re
from typing import Any

import keras
import tensorflow as tf

from maml_keras.inner.loop import InnerLoop
from maml_keras.learner import target_specs
from maml_keras.learner.learner import Learner
from maml_keras.learner.losses import PureLoss


def of_model(
    learner: Learner, inner: InnerLoop, *, trained_on: str = ""
) -> tuple[Any, Any]:
    """Specs of the inputs and targets, from the model's symbolic inputs.

    Args:
        learner: the model as a pure function.
        inner: the inner loop, whose loss takes the targets.
        trained_on: the targets of training, as `target_specs.described` writes them;
            used if the loss does not tell the shape of its targets.

    Raises:
        ValueError: if the model does not tell the shape of its inputs or outputs, or
            the loss does not take targets like the outputs and no others are known.
    """
    model = learner.model
    try:
        # `input` keeps the nest of several inputs. A Sequential model has no `input`.
        inputs = model.inputs[0] if _is_one(model, "inputs") else model.input
        outputs = model.outputs[0] if _is_one(model, "outputs") else model.output
        x = keras.tree.map_structure(
            lambda t: tf.TensorSpec([None, *t.shape[1:]], t.dtype), inputs
        )
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(
            f"Model '{model.name}' does not tell the shape of its inputs. Pass "
            "`input_signature=(x, y)`, nests of tf.TensorSpec such as "
            "tf.TensorSpec([None, 28, 28, 1], tf.float32)."
        ) from error
    if trained_on and not inner.loss.tells_targets:
        return x, target_specs.specs(trained_on)
    y = _targets(inner.loss, outputs)
    _check_taken(learner, inner.loss, y, outputs)
    return x, y


def _check_taken(learner: Learner, loss: PureLoss, y: Any, outputs: Any) -> None:
    """Refuses targets like the outputs if the loss cannot compute with them."""
    predictions = keras.tree.map_structure(
        lambda t: tf.TensorSpec([None, *t.shape[1:]], t.dtype), outputs
    )
    if loss.tells_targets:
        return
    try:
        tf.function(loss, autograph=False).get_concrete_function(y, predictions)
    except (TypeError, ValueError, tf.errors.OpError) as error:
        raise ValueError(
            f"The loss '{loss.name}' must tell what targets it takes. Received: an "
            f"error for targets like the outputs of '{learner.model.name}': {error}. "
            "Export after training, which shows the targets, or pass "
            "`input_signature=(x, y)`, nests of tf.TensorSpec such as "
            "tf.TensorSpec([None, 1], tf.float32)."
        ) from error


def _is_one(model: keras.Model, what: str) -> bool:
    """Whether the model has a single input or output, outside of a dict."""
    nest = getattr(model, f"_{what}_struct", None)
    return len(getattr(model, what)) == 1 and not isinstance(nest, dict)


def _targets(loss: PureLoss, outputs: Any) -> Any:
    """Specs of the targets of a loss, in the nest of the outputs."""
    if isinstance(loss.parts, dict):
        return {key: _targets(part, outputs[key]) for key, part in loss.parts.items()}
    if loss.parts is not None:
        return [_targets(part, output) for part, output in zip(loss.parts, outputs)]
    if keras.tree.is_nested(outputs):
        return keras.tree.map_structure(lambda t: _targets(loss, t), outputs)
    if loss.is_sparse_categorical:
        return tf.TensorSpec([None, *outputs.shape[1:-1]], tf.int32)
    return tf.TensorSpec([None, *outputs.shape[1:]], tf.float32)


def named(spec: Any, name: str) -> Any:
    """The spec with a name for each leaf: `x`, or `x_a` and `x_b` of a nest.

    What TensorFlow does not allow in a name becomes an underscore.

    >>> named(tf.TensorSpec([None, 3]), "x").name
    'x'
    >>> named({"a": tf.TensorSpec([None, 3])}, "x")["a"].name
    'x_a'

    Raises:
        ValueError: if two leaves get one name.
    """
    paths, flat = zip(*keras.tree.flatten_with_path(spec))
    names = [
        re.sub(r"\W", "_", "_".join([name, *map(str, p)]), flags=re.A) for p in paths
    ]
    if len(set(names)) < len(names):
        twice = next(n for n in names if names.count(n) > 1)
        both = [p[-1] for p, n in zip(paths, names) if n == twice]
        raise ValueError(
            "Inputs must have names that differ in letters and digits. Received: "
            f"{', '.join(map(repr, both))}, which are both '{twice}' in an export. "
            "Rename one of them."
        )
    leaves = [tf.TensorSpec(leaf.shape, leaf.dtype, n) for n, leaf in zip(names, flat)]
    return keras.tree.pack_sequence_as(spec, leaves)


def outputs_named(values: Any) -> dict[str, Any]:
    """The leaves of a prediction by name, as a signature returns them.

    >>> list(outputs_named(tf.zeros([1])))
    ['predictions']
    >>> list(outputs_named([tf.zeros([1]), tf.zeros([1])]))
    ['predictions_0', 'predictions_1']
    """
    return {
        "_".join(["predictions", *map(str, path)]): leaf
        for path, leaf in keras.tree.flatten_with_path(values)
    }


def table(functions: dict[str, tuple[list[Any], dict[str, Any], Any]]) -> Any:
    """The functions as plain data, for the card.

    Args:
        functions: by the function's name, a tuple of the specs of its arguments in
            order, the defaults by the argument's name, and the result: a nest of
            specs, or a text.
    """
    described = {}
    for name, (specs, defaults, returns) in functions.items():
        arguments = {}
        for spec in specs:
            # A dict of named weights is one argument.
            if isinstance(spec, dict) and all(
                k == getattr(s, "name", None) for k, s in spec.items()
            ):
                arguments["weights"] = {k: _leaf(s) for k, s in spec.items()}
                continue
            for leaf in keras.tree.flatten(spec):
                default = defaults.get(leaf.name)
                extra = {} if default is None else {"default": default}
                arguments[leaf.name] = {**_leaf(leaf), **extra}
        described[name] = {
            "arguments": arguments,
            "returns": keras.tree.map_structure(
                lambda leaf: leaf if isinstance(leaf, str) else _leaf(leaf), returns
            ),
        }
    return described


def _leaf(spec: Any) -> dict[str, Any]:
    return {"shape": spec.shape.as_list(), "dtype": spec.dtype.name}

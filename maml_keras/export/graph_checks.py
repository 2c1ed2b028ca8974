"""Checks of an exported function's arguments and results, as operations in its graph.

Each check returns the checked tensors, and later operations read the returned tensors.
So a graph optimiser cannot remove a check, and nothing is computed or assigned after a
failed one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from maml_keras.data.preparation import Preparation
from maml_keras.learner.losses import PureLoss

AS_LEARNED = -1.0
"""The `learning_rate` that stands for the learned rates."""


def inputs(
    name: str,
    x: Any,
    prepare: Callable[[Any], Any],
    *,
    counted: Callable[[Any], Any] | None = None,
) -> Any:
    """Checks that `x` holds an example; prepares it, and checks that it is finite.

    Args:
        name: str, the argument's name for the message.
        x: tensor `[examples, ...]`, or a nest of such tensors.
        prepare: turns `x` into what is returned.
        counted: turns that into what must be finite; None if all of it must be.
    """
    leaves = tf.nest.flatten(x)
    checks = [
        tf.debugging.Assert(
            _examples(leaf) > 0,
            [f"`{name}` must hold at least one example. Received: none."],
        )
        for leaf in leaves
    ]
    checks += [
        tf.debugging.Assert(
            tf.equal(_examples(leaf), _examples(leaves[0])),
            [
                f"The arrays of `{name}` must hold as many examples as each other. "
                "Received:",
                _examples(leaves[0]),
                "and",
                _examples(leaf),
            ],
        )
        for leaf in leaves[1:]
    ]
    message = f"`{name}` must be finite. Received: NaN or infinity"
    x = prepare(_after(checks, x))
    if counted is None:
        return tf.nest.map_structure(lambda t: _finite(t, message), x)
    finite = [_finite(t, message) for t in tf.nest.flatten(counted(x))]
    return _after(finite, x)


def support(
    names: tuple[str, str],
    x: Any,
    y: Any,
    *,
    loss: PureLoss,
    answers: Any,
    preparation: Preparation,
) -> tuple[Any, Any]:
    """Checks that inputs and targets fit each other; returns both.

    Args:
        names: the arguments' names for the messages.
        x: tensor `[examples, ...]`, or a nest of such tensors.
        y: tensor `[examples, ...]`, or a nest of such tensors.
        loss: the loss, which tells class numbers and targets that may be NaN.
        answers: the predictions, of which only the shapes are used.
        preparation: prepares both; what is returned is prepared.
    """
    x = inputs(names[0], x, preparation.inputs)
    y = inputs(names[1], y, preparation.targets, counted=loss.counted)
    count, targets = _examples(tf.nest.flatten(x)[0]), tf.nest.flatten(y)
    checks = [
        tf.debugging.Assert(
            tf.equal(_examples(targets[0]), count),
            [
                f"`{names[0]}` and `{names[1]}` must hold as many examples. Received:",
                count,
                "and",
                _examples(targets[0]),
            ],
        )
    ]
    checks += [_labels(names[1], *found) for found in loss.class_numbers(y, answers)]
    x, y = _after(checks, (x, y))
    return x, y


def settings(steps: Any, learning_rate: Any, *, learned: bool) -> tuple[Any, Any]:
    """Checks steps and rate; returns both in the form that an `UpdateRule` takes.

    Args:
        steps: int tensor.
        learning_rate: float tensor. `AS_LEARNED` becomes NaN, for which a rule takes
            its learned rates.
        learned: bool, whether the rule has learned rates.
    """
    rate = learning_rate
    fits = tf.math.is_finite(rate) & (rate >= 0.0)
    wanted = "a finite number, not negative"
    if learned:
        fits |= tf.equal(rate, AS_LEARNED)
        wanted += ", or -1 for the learned rates"
    checks = [
        not_negative(steps),
        tf.debugging.Assert(
            fits,
            [
                f"`learning_rate` must be {wanted}. Received:",
                tf.strings.as_string(rate),
            ],
        ),
    ]
    steps, rate = _after(checks, (steps, rate))
    if learned:
        rate = tf.where(tf.equal(rate, AS_LEARNED), float("nan"), rate)
    return steps, rate


def not_negative(steps: Any) -> Any:
    """An operation that refuses a negative number of steps."""
    return tf.debugging.Assert(
        steps >= 0, ["`steps` must be an integer, 0 or more. Received:", steps]
    )


def adapted(weights: dict[str, Any]) -> dict[str, Any]:
    """Checks that the adapted weights are finite; returns them."""
    return {
        name: _finite(
            value,
            f"Adaptation has diverged: weight '{name}' is not finite after it. Lower "
            "`learning_rate` or `steps`, or scale the inputs",
        )
        for name, value in weights.items()
    }


def loss(value: Any) -> Any:
    """Checks that the loss after fine-tuning is finite; returns it."""
    return _finite(
        value,
        "Adaptation has diverged: the loss is not finite after it. Lower "
        "`learning_rate` or `steps`, or scale the inputs",
    )


def given(weights: dict[str, Any]) -> dict[str, Any]:
    """Checks that the caller's weights are finite; returns them."""
    return {
        name: _finite(value, f"`weights['{name}']` must be finite")
        for name, value in weights.items()
    }


def predictions(values: Any) -> Any:
    """Checks that no prediction is NaN; returns them.

    Infinity is allowed: a network may mask a class with it.
    """
    checks = [
        tf.debugging.Assert(
            ~tf.reduce_any(tf.math.is_nan(value)),
            [
                "The predictions are NaN. The inputs, or the weights in place, are too "
                "large."
            ],
        )
        for value in tf.nest.flatten(values)
        if value.dtype.is_floating
    ]
    return _after(checks, values)


def _labels(name: str, y: Any, classes: int, ignored: int | None) -> Any:
    fits = (y >= 0) & (y < classes)
    if ignored is not None:
        fits |= tf.equal(y, ignored)
    return tf.debugging.Assert(
        tf.reduce_all(fits),
        [
            f"`{name}` must hold class numbers 0..{classes - 1}. Received: from",
            tf.cast(tf.reduce_min(y), tf.int32),
            "to",
            tf.cast(tf.reduce_max(y), tf.int32),
        ],
    )


def _finite(value: Any, message: str) -> Any:
    if not value.dtype.is_floating:
        return value
    return tf.debugging.check_numerics(value, message)


def _examples(leaf: Any) -> Any:
    return tf.shape(leaf)[0]


def _after(checks: list[Any], values: Any) -> Any:
    with tf.control_dependencies([check for check in checks if check is not None]):
        return tf.nest.map_structure(tf.identity, values)

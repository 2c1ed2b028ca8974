"""Checks the meta-gradient against finite differences, in float64."""

from __future__ import annotations

import copy
import itertools
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from maml_keras.backend.progress import Bar
from maml_keras.learner.model_copies import float64_twin, widened
from maml_keras.outer.maml import MAML

STEP_SIZES = (1e-4, 1e-5, 1e-6, 1e-7)


class MetaGradientError(AssertionError):
    """A meta-gradient differs from the finite differences of the query loss."""


@dataclass(frozen=True)
class VariableCheck:
    """The derivative along one random direction of one variable.

    Attributes:
        path: the variable's path.
        analytic: the derivative by `compute_meta_gradients`.
        numeric: the central difference at the best step size.
        error: the relative difference of `analytic` and `numeric`.
        decided: False if the differences do not converge as the step shrinks, for
            example where a ReLU or a max-pooling winner switches. Then `error` means
            nothing.
    """

    path: str
    analytic: float
    numeric: float
    error: float
    decided: bool


def check_meta_gradient(
    maml: MAML,
    batch: Any,
    *,
    tolerance: float = 1e-6,
    seed: int = 0,
    verbose: str | int = "auto",
) -> list[VariableCheck]:
    """Compares the meta-gradient with central differences, variable by variable.

    `(L(theta + e d) - L(theta - e d)) / 2e  =  g . d`  for a random direction d in
    each variable, on a float64 twin of the model, at several step sizes e.

    Args:
        maml: the model to check; the check does not change it.
        batch: `(task, query_y)`; one or two tasks are enough.
        tolerance: float, the largest relative difference that passes.
        seed: int, draws the directions and fixes dropout's masks.
        verbose: 0 for silence, else a progress bar with the largest error once two
            seconds have passed.

    Returns:
        A `VariableCheck` for each trainable variable.

    Raises:
        MetaGradientError: with the name of each variable whose gradient is wrong.
            First-order MAML fails by design, because its meta-gradient is not the
            gradient of the query loss.

    >>> from maml_keras import SGD, InnerLoop
    >>> model = keras.Sequential([keras.Input([1]), keras.layers.Dense(1)])
    >>> maml = MAML(model, InnerLoop("mse", SGD(0.1)))
    >>> x = np.array([[[1.0], [2.0]]])
    >>> batch = {"support_x": x, "support_y": 2 * x, "query_x": x}, 3 * x
    >>> checks = check_meta_gradient(maml, batch, verbose=0)
    >>> [check.decided for check in checks]
    [True, True]
    """
    twin = _twin(maml)
    task, query_y = tf.nest.map_structure(_as_float64, tuple(batch[:2]))
    fixed = tf.constant([seed, 1])

    def losses_and_gradients() -> Any:
        return twin.compute_meta_gradients((task, query_y), seed=fixed)

    compiled = tf.function(losses_and_gradients, autograph=False)
    # The same graph without the gradients: TensorFlow prunes them.
    loss_alone = tf.function(lambda: losses_and_gradients()[0], autograph=False)
    loss, gradients = compiled()
    generator = np.random.default_rng(seed)
    bar = Bar(len(gradients), unit="variable", verbose=verbose)
    checks: list[VariableCheck] = []
    for original, variable, gradient in zip(
        maml.trainable_variables, twin.trainable_variables, gradients
    ):
        numbers = gradient.numpy(), loss_alone, float(loss), generator
        checks.append(_check(original.path, variable, *numbers))
        errors = [check.error for check in checks if check.decided]
        bar.update(len(checks), {"largest_error": max(errors, default=0.0)})
    wrong = [c for c in checks if c.decided and c.error > tolerance]
    if wrong:
        lines = "; ".join(
            f"{c.path}: {c.analytic:.9g}, but differences give {c.numeric:.9g} "
            f"(relative error {c.error:.2g})"
            if np.isfinite(c.error)
            else f"{c.path}: the gradient is not finite"
            for c in wrong
        )
        hint = ""
        if not maml.meta_gradient.is_derivative(maml.inner):
            hint = (
                f" {maml.meta_gradient.title(maml.inner)!r} is by design not the "
                "derivative of the query loss. Use `Backprop()` with "
                "`second_order=True` for the derivative."
            )
        raise MetaGradientError(
            f"The meta-gradient is wrong by more than {tolerance:g} for {lines}.{hint}"
        )
    return checks


def _check(
    path: str, variable: Any, gradient: Any, loss: Any, scale: float, generator: Any
) -> VariableCheck:
    if not np.isfinite(gradient).all():
        return VariableCheck(path, float("nan"), float("nan"), float("inf"), True)
    theta = variable.numpy()
    direction = generator.normal(size=theta.shape)
    direction /= np.linalg.norm(direction)
    analytic = float(np.sum(gradient * direction))
    numeric = []
    for size in STEP_SIZES:
        values = []
        for sign in (1.0, -1.0):
            variable.assign(theta + sign * size * direction)
            values.append(float(loss()))
        numeric.append((values[0] - values[1]) / (2 * size))
    variable.assign(theta)
    # The error is relative to the variable's own gradient, but not finer than float64
    # can resolve a difference of losses of this size at the best step.
    unit = max(abs(analytic), 0.01 * float(np.linalg.norm(gradient)), 1e-4 * abs(scale))
    errors = [abs(n - analytic) / unit for n in numeric]
    best = int(np.argmin(errors))
    # The differences have converged if two neighbouring step sizes agree, even if both
    # disagree with the analytic derivative.
    decided = any(abs(a - b) <= 1e-4 * unit for a, b in itertools.pairwise(numeric))
    error = errors[best]
    return VariableCheck(path, analytic, numeric[best], error, decided)


def _twin(maml: MAML) -> MAML:
    # The rule's learned variables are differentiated too, so they must be float64. The
    # rest of the inner loop is copied without its configuration, because it may hold
    # functions, which a configuration cannot hold.
    rule = keras.saving.serialize_keras_object(maml.rule)
    inner = copy.copy(maml.inner)
    inner.rule = keras.saving.deserialize_keras_object(widened(rule))
    twin = MAML(
        float64_twin(maml.model),
        inner,
        meta_gradient=maml.meta_gradient,
        task_map=maml.task_map,
        batch_norm=maml.learner.batch_norm.fresh(),
        seed=0,
    )
    for part in ("rule", "batch_norm"):
        ours, theirs = getattr(twin, part), getattr(maml, part)
        for variable, value in zip(
            getattr(ours, "variables", []), getattr(theirs, "variables", [])
        ):
            variable.assign(tf.cast(value.value, variable.dtype))
    twin.episodes_seen.assign(maml.episodes_seen.value)
    twin.meta_steps.assign(maml.meta_steps.value)
    twin._outer_loss = maml._outer_loss
    return twin


def _as_float64(value: Any) -> Any:
    tensor = tf.convert_to_tensor(value)
    return tf.cast(tensor, tf.float64) if tensor.dtype.is_floating else tensor

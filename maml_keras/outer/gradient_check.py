"""Checks the meta-gradient against finite differences."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from maml_keras.backend.progress import Bar
from maml_keras.learner.model_copies import default_floats
from maml_keras.outer import gradient_twin
from maml_keras.outer.maml import MAML
from maml_keras.outer.meta_step import mean_loss


class MetaGradientError(AssertionError):
    """A meta-gradient differs from finite differences, or could not be compared.

    >>> issubclass(MetaGradientError, AssertionError)  # A test fails, as by `assert`.
    True
    """


@dataclass(frozen=True)
class _Precision:
    """How finely differences resolve a derivative.

    Attributes:
        sizes: step sizes, falling.
        tolerance: the largest relative error that passes by default.
        agreement: the relative difference of neighbouring steps that have converged.
        floor: the smallest derivative that can be resolved, as a part of the loss.
        repeats: the relative difference of two computations of one loss.
    """

    sizes: tuple[float, ...]
    tolerance: float
    agreement: float
    floor: float
    repeats: float


_NOTHING = (
    "The check decided nothing: the finite differences of no variable converge as the "
    "step shrinks."
)
_NOT_SMOOTH = (
    "The loss is not smooth there, or is another one in each call. Check with a smooth "
    "activation or a smaller learning rate, and draw random numbers from a "
    "`keras.random.SeedGenerator` of the layer."
)
_PRECISIONS = {
    "float64": _Precision((1e-4, 1e-5, 1e-6, 1e-7), 1e-6, 1e-4, 1e-4, 1e-9),
    "float32": _Precision((3e-2, 1e-2, 3e-3, 1e-3), 1e-2, 1e-2, 1e-2, 1e-4),
}


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
    tolerance: float | None = None,
    dtype: str = "float64",
    seed: int = 0,
    verbose: str | int = "auto",
) -> list[VariableCheck]:
    """Compares the meta-gradient with central differences, variable by variable.

    `(L(theta + e d) - L(theta - e d)) / 2e  =  g . d`  for a random direction d in
    each variable, on a float64 twin of the model, at several step sizes e.

    A model whose operations have no float64 kernel, such as 3-D pooling, is checked
    with `dtype="float32"`, which is coarser.

    Args:
        maml: the model to check; the check does not change it.
        batch: `(task, query_y)`; one or two tasks are enough.
        tolerance: float, the largest relative difference that passes; None for 1e-6
            in float64 and 1e-2 in float32.
        dtype: `"float64"` or `"float32"`, the type that the twin computes in.
        seed: int, draws the directions and fixes dropout's masks.
        verbose: 0 for silence, else a progress bar with the largest error once two
            seconds have passed.

    Returns:
        A `VariableCheck` for each trainable variable.

    Raises:
        MetaGradientError: with the name of each variable whose gradient is wrong.
            First-order MAML fails by design, because its meta-gradient is not the
            gradient of the query loss. Also if no variable could be decided, or if
            TensorFlow has no kernel of that type; the message names the layer.
        ValueError: if `dtype` is another one, or a derivative does not exist.

    >>> from maml_keras import SGD, InnerLoop
    >>> model = keras.Sequential([keras.Input([1]), keras.layers.Dense(1)])
    >>> maml = MAML(model, InnerLoop("mse", SGD(0.1)))
    >>> x = np.array([[[1.0], [2.0]]])
    >>> batch = {"support_x": x, "support_y": 2 * x, "query_x": x}, 3 * x
    >>> checks = check_meta_gradient(maml, batch, verbose=0)
    >>> [check.decided for check in checks]
    [True, True]
    """
    if dtype not in _PRECISIONS:
        raise ValueError(
            f"`dtype` must be one of {list(_PRECISIONS)}. Received: dtype={dtype!r}."
        )
    precision = _PRECISIONS[dtype]
    # What layers make of the default float type has to be as wide.
    with default_floats(dtype):
        try:
            checks, graph = _checks(maml, batch, precision, dtype, seed, verbose)
        except gradient_twin.KERNEL_ERRORS as error:
            sentence = gradient_twin.missing_kernel(maml.model, dtype, error)
            if sentence is None:
                raise
            raise MetaGradientError(sentence) from error
    tolerance = precision.tolerance if tolerance is None else tolerance
    wrong = [c for c in checks if c.decided and c.error > tolerance]
    undecided = bool(checks) and not any(c.decided for c in checks)
    if wrong or undecided:
        sentences = [_blame(maml, wrong, tolerance) if wrong else _NOTHING]
        coarse = gradient_twin.coarser(maml.model, graph, dtype)
        if coarse:
            sentences.append(
                "The differences are inexact, because a part of the model computes in "
                f"less than {dtype}: {', '.join(coarse)}. Compute there in the type of "
                "the inputs, or check with `dtype='float32'`."
            )
        elif undecided:
            sentences.append(_NOT_SMOOTH)
        raise MetaGradientError(" ".join(sentences))
    return checks


def _checks(
    maml: MAML,
    batch: Any,
    precision: _Precision,
    dtype: str,
    seed: int,
    verbose: str | int,
) -> tuple[list[VariableCheck], tf.Graph]:
    """The check of each variable, and the graph that computed the gradients."""
    twin = gradient_twin.twin(maml, dtype)
    task, query_y = tf.nest.map_structure(
        lambda value: _cast(value, dtype), tuple(batch[:2])
    )
    fixed = tf.constant([seed, 1])

    compiled: Any = tf.function(
        lambda: twin.compute_meta_gradients((task, query_y), seed=fixed),
        autograph=False,
    )
    loss_alone = tf.function(
        lambda: mean_loss(twin, task, query_y, seed=fixed), autograph=False
    )
    loss, gradients = compiled()
    again = float(loss_alone())
    if abs(again - float(loss)) > precision.repeats * abs(float(loss)):
        raise MetaGradientError(
            f"The meta-gradient cannot be checked: for the same weights and tasks the "
            f"loss is {float(loss):.9g} in one trace of the model and {again:.9g} in "
            "another. A layer draws random numbers outside of a "
            "`keras.random.SeedGenerator`, for example with Python's `random`, as "
            "`AugMix` does. In a graph it draws them once and for all."
        )
    generator = np.random.default_rng(seed)
    bar = Bar(len(gradients), unit="variable", verbose=verbose)
    checks: list[VariableCheck] = []
    for original, variable, gradient in zip(
        maml.trainable_variables, twin.trainable_variables, gradients
    ):
        numbers = gradient.numpy(), loss_alone, float(loss), generator
        checks.append(_check(original.path, variable, *numbers, precision))
        errors = [check.error for check in checks if check.decided]
        bar.update(len(checks), {"largest_error": max(errors, default=0.0)})
    return checks, compiled.get_concrete_function().graph


def _blame(maml: MAML, wrong: list[VariableCheck], tolerance: float) -> str:
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
    return f"The meta-gradient is wrong by more than {tolerance:g} for {lines}.{hint}"


def _check(
    path: str,
    variable: Any,
    gradient: Any,
    loss: Callable[[], Any],
    scale: float,
    generator: Any,
    precision: _Precision,
) -> VariableCheck:
    if not np.isfinite(gradient).all():
        return VariableCheck(path, float("nan"), float("nan"), float("inf"), True)
    theta = variable.numpy()
    direction = generator.normal(size=theta.shape)
    direction /= np.linalg.norm(direction)
    analytic = float(np.sum(gradient * direction))
    numeric = []
    for size in precision.sizes:
        values = []
        for sign in (1.0, -1.0):
            variable.assign(theta + sign * size * direction)
            values.append(float(loss()))
        numeric.append((values[0] - values[1]) / (2 * size))
    variable.assign(theta)
    # The error is relative to the variable's own gradient, but not finer than the type
    # can resolve a difference of losses of this size at the best step.
    norm = float(np.linalg.norm(gradient))
    unit = max(abs(analytic), 0.01 * norm, precision.floor * abs(scale))
    errors = [abs(n - analytic) / unit for n in numeric]
    best = int(np.argmin(errors))
    # The differences have converged if two neighbouring step sizes agree, even if both
    # disagree with the analytic derivative.
    decided = any(
        abs(a - b) <= precision.agreement * unit for a, b in itertools.pairwise(numeric)
    )
    error = errors[best]
    return VariableCheck(path, analytic, numeric[best], error, decided)


def _cast(value: Any, dtype: str) -> Any:
    tensor = tf.convert_to_tensor(value)
    return tf.cast(tensor, dtype) if tensor.dtype.is_floating else tensor

"""Implicit MAML: the meta-gradient of a solved inner problem, without the steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from maml_keras.inner.loop import InnerLoop
from maml_keras.inner.starts import Initialisation
from maml_keras.learner.weights import support_of
from maml_keras.outer.meta_gradients import Estimate, MetaGradient
from maml_keras.outer.objectives import FinalStep, TaskProblem


@keras.saving.register_keras_serializable(package="maml_keras")
class Implicit(MetaGradient):
    """The meta-gradient by the implicit function theorem (implicit MAML).

    If the inner loop has solved
    `min_phi L(support; phi) + lambda / 2 * |phi - theta|^2`,

    then `d phi / d theta = (I + H / lambda)^-1`, with `H` the Hessian of the support
    loss at `phi`,

    and conjugate gradients solve `(I + H / lambda) v = d L(query; phi) / d phi` for
    the meta-gradient v. The inner steps are not kept, so memory is that of one step,
    for any number of steps. The result is as exact as the solutions of the inner
    problem and of the linear system.

    If H has eigenvalues below `-lambda`, `phi` is a saddle and not a minimum. The
    solver stops before such a direction; in the worst case it returns the query
    gradient, as first-order MAML does. A larger lambda avoids the saddle.

    Weights that do not adapt get
    `d L / d w - (d^2 L(support) / d w d phi) v / lambda`. Learned variables of the
    update rule do not change the solution and get a zero gradient.

    Args:
        cg_steps: int, positive, steps of conjugate gradients.

    Raises:
        ValueError: if `cg_steps` is not positive.

    Reference: Rajeswaran et al., 2019, https://arxiv.org/abs/1909.04630

    >>> import maml_keras as mk
    >>> inner = mk.InnerLoop("mse", mk.SGD(0.1), steps=2, proximal=2.0)
    >>> mk.Implicit().title(inner)
    'Implicit'
    """

    def __init__(self, cg_steps: int = 5) -> None:
        if int(cg_steps) < 1:
            raise ValueError(f"`cg_steps` must be positive. Received: {cg_steps}.")
        self.cg_steps = int(cg_steps)

    def check(self, inner: InnerLoop) -> None:
        if inner.proximal <= 0.0 or not isinstance(inner.start_from, Initialisation):
            raise ValueError(
                "Implicit needs an inner problem with a solution near the "
                "initialisation: InnerLoop(..., proximal=lambda) with lambda above 0 "
                f"and the default `start`. Received: proximal={inner.proximal}, "
                f"start={type(inner.start_from).__name__}."
            )
        if inner.batch_size is not None:
            raise ValueError(
                "Implicit needs the solution of one inner problem, and each part of a "
                f"support set is another one. Received: batch_size={inner.batch_size}. "
                "Leave out `batch_size`."
            )

    def __call__(self, problem: TaskProblem) -> Estimate:
        learner, inner, task = problem.learner, problem.inner, problem.task
        support = support_of(task)
        trajectory = problem.first_order().trajectory()
        # A task map traces this code in a separate function, where the tape must see
        # the weights enter. Hence the identities.
        solved = [tf.identity(w) for w in trajectory[-1].weights]
        trajectory[-1] = trajectory[-1]._replace(weights=solved)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(solved)
            result = FinalStep()(problem, trajectory)
        gradients = learner.filled(
            tape.gradient(result.loss, solved), learner.variables
        )

        def curvature(direction: list[Any]) -> list[Any]:
            """`d (grad_phi L(support) . direction) / d w` for every weight w."""
            with tf.GradientTape(watch_accessed_variables=False) as outer:
                outer.watch(solved)
                chosen = inner.selected(learner, solved)
                with tf.GradientTape(watch_accessed_variables=False) as tape:
                    tape.watch(chosen)
                    loss, _ = inner.support_loss(
                        learner,
                        inner.merged(learner, solved, chosen),
                        trajectory[-1].state,
                        *support,
                        step=inner.steps,
                        training=True,
                    )
                slopes = _tensors(
                    tape.gradient(loss, chosen, unconnected_gradients="zero")
                )
                along = _dot(slopes, [tf.stop_gradient(d) for d in direction])
            return _tensors(outer.gradient(along, solved, unconnected_gradients="zero"))

        def product(direction: list[Any]) -> list[Any]:
            bent = inner.selected(learner, curvature(direction))
            return [d + b / inner.proximal for d, b in zip(direction, bent)]

        found = conjugate_gradients(
            product, inner.selected(learner, gradients), steps=self.cg_steps
        )
        mixed = curvature(found)
        direct = [g - m / inner.proximal for g, m in zip(gradients, mixed)]
        rates = [tf.zeros(v.shape, v.dtype) for v in inner.rule.trainable_variables]
        return Estimate(
            result.loss,
            [*inner.merged(learner, direct, found), *rates],
            result.predictions,
            result.state,
            problem.adapted(trajectory),
        )

    def is_derivative(self, inner: InnerLoop) -> bool:
        return False

    def get_config(self) -> dict[str, Any]:
        return {"cg_steps": self.cg_steps}


def conjugate_gradients(
    product: Callable[[list[Any]], list[Any]], target: list[Any], *, steps: int
) -> list[Any]:
    """Solves `A x = target` for a symmetric positive definite A, from `x = 0`.

    If A is not definite, the solver stops at the first direction d with
    `d . A d <= 0`, because the next step would lead to a saddle, and returns the
    solution so far. If that is the very first direction, the solver returns `target`.
    So `x . target` is always positive.

    Args:
        product: maps a list of tensors x to `A x`.
        target: list of tensors.
        steps: int, number of products; more steps than unknowns add nothing.

    Returns:
        List of tensors like `target`.

    Reference: Steihaug, 1983, https://doi.org/10.1137/0720042

    >>> found = conjugate_gradients(
    ...     lambda x: [x[0] * [1.0, 4.0]], [tf.constant([1.0, 2.0])], steps=2)
    >>> [round(float(x), 5) for x in found[0]]
    [1.0, 0.5]
    """
    solution = [tf.zeros_like(t) for t in target]
    residual, direction = list(target), list(target)
    square = _dot(residual, residual)
    definite = tf.constant(True)
    for k in range(steps):
        moved = product(direction)
        curvature = _dot(direction, moved)
        definite = tf.logical_and(definite, curvature > 0.0)
        if k == 0:
            begun = definite
        # A vanished denominator means that the solution is already found.
        length = tf.where(definite, tf.math.divide_no_nan(square, curvature), 0.0)
        solution = _plus(solution, length, direction)
        residual = _plus(residual, -length, moved)
        before, square = square, _dot(residual, residual)
        turn = tf.math.divide_no_nan(square, before)
        direction = _plus(residual, turn, direction)
    return [tf.where(begun, s, t) for s, t in zip(solution, target)]


def _dot(a: list[Any], b: list[Any]) -> Any:
    """The scalar product, in the widest type of the tensors."""
    wide = keras.backend.result_type(*(x.dtype.name for x in a))
    return tf.add_n([tf.reduce_sum(tf.cast(x * y, wide)) for x, y in zip(a, b)])


def _plus(a: list[Any], scale: Any, b: list[Any]) -> list[Any]:
    """`a + scale * b`, each tensor in its own type."""
    return [x + tf.cast(scale, x.dtype) * y for x, y in zip(a, b)]


def _tensors(gradients: list[Any]) -> list[Any]:
    return [tf.convert_to_tensor(g) for g in gradients]

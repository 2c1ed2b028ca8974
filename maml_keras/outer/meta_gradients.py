"""Estimators of the meta-gradient: the gradient of the initialisation for one task."""

from __future__ import annotations

import abc
import functools
import itertools
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from maml_keras.backend.configured import Configured
from maml_keras.inner.loop import InnerLoop
from maml_keras.learner import masks
from maml_keras.outer.objectives import FinalStep, Objective, TaskProblem


class Estimate(NamedTuple):
    """The result of a meta-gradient for one task.

    Attributes:
        loss: scalar query loss.
        gradients: list of tensors, for the learner's variables, then the rule's
            and the start's.
        predictions: predictions of the query inputs, after adaptation.
        state: list of tensors, the non-trainable variables after the query pass.
        adapted: list of tensors, the last weights of those that adapt. `MAML` refuses
            a step in which one of them is not finite; empty for no such check.

    >>> gradients, predictions = [tf.zeros([2])], tf.zeros([3, 1])
    >>> estimate = Estimate(tf.constant(0.5), gradients, predictions, [])
    >>> float(estimate.loss), estimate.adapted
    (0.5, ())
    """

    loss: Any
    gradients: list[Any]
    predictions: Any
    state: list[Any]
    adapted: Any = ()


class MetaGradient(Configured, abc.ABC):
    """Turns one task into a gradient of the initialisation; `MAML` averages over tasks.

    Attributes:
        scales_with_loss: bool, whether the gradient doubles when the query loss
            doubles, as a derivative of the query loss does. If not, `MAML` scales the
            gradient, because an optimizer for float16 divides all gradients by the
            scale of the loss.

    >>> class Doubled(MetaGradient):
    ...     def __call__(self, problem):
    ...         estimate = Backprop()(problem)
    ...         gradients = [2.0 * g for g in estimate.gradients]
    ...         return estimate._replace(gradients=gradients)
    >>> import maml_keras as mk
    >>> Doubled().title(mk.InnerLoop("mse", mk.SGD(0.1)))
    'Doubled'
    """

    scales_with_loss = True

    @abc.abstractmethod
    def __call__(self, problem: TaskProblem) -> Estimate:
        """The estimate of one task.

        Args:
            problem: the task, its learner, inner loop and query loss.
        """

    def loss(self, problem: TaskProblem) -> Any:
        """The query loss of one task; a subclass may leave out what gradients need.

        Args:
            problem: the task, its learner, inner loop and query loss.

        Returns:
            Scalar tensor, the `loss` of the estimate.
        """
        return self(problem).loss

    def check(self, inner: InnerLoop) -> None:
        """Raises if this meta-gradient does not fit `inner`; `MAML` calls it."""

    def remaining_scale(self, scale: Any, *, iteration: Any) -> Any:
        """The factor by which `MAML` must still scale the gradients.

        Args:
            scale: scalar tensor, the factor that the query loss was multiplied by.
            iteration: int tensor, meta-steps taken so far.

        Returns:
            Scalar tensor: 1 if the gradients scale with the loss, else `scale`.
        """
        return tf.ones_like(scale) if self.scales_with_loss else scale

    def title(self, inner: InnerLoop) -> str:
        """The name of this meta-gradient on a card, for the given inner loop."""
        return type(self).__name__

    def is_derivative(self, inner: InnerLoop) -> bool:
        """True if the estimate is the exact derivative, for the given inner loop."""
        return True


class QueryGradient(MetaGradient, abc.ABC):
    """An estimator that differentiates an objective of the query set.

    Args:
        objective: an `Objective`; None for `FinalStep()`.
    """

    def __init__(self, objective: Objective | None = None) -> None:
        self.objective = objective or FinalStep()

    def get_config(self) -> dict[str, Any]:
        return {"objective": keras.saving.serialize_keras_object(self.objective)}


@keras.saving.register_keras_serializable(package="maml_keras")
class Backprop(QueryGradient):
    """The derivative of the objective through every inner step.

    `d L(query; phi_K) / d theta`, with `phi_K` a function of `theta`. With
    `InnerLoop(second_order=False)` the inner gradients count as constants, and the
    result is first-order MAML: the query gradient at `phi_K`.

    Args:
        objective: an `Objective`; None for `FinalStep()`.

    Reference: Finn et al., 2017, https://arxiv.org/abs/1703.03400

    >>> import maml_keras as mk
    >>> inner = mk.InnerLoop("mse", mk.SGD(0.1), steps=2)
    >>> mk.Backprop().title(inner)
    'Backprop, second order'
    """

    def __call__(self, problem: TaskProblem) -> Estimate:
        # A task map traces this code in a separate function, where the tape must see
        # the weights enter: a tensor captured from outside would have no gradient.
        weights = [tf.identity(w) for w in problem.weights]
        problem = problem._replace(weights=weights)
        learned = problem.inner.trainable_variables
        learned_values = [tf.convert_to_tensor(v.value) for v in learned]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch([weights, learned_values])
            with keras.StatelessScope(list(zip(learned, learned_values))):
                trajectory = problem.trajectory()
            result = self.objective(problem, trajectory)
        gradients = tape.gradient(result.loss, [*weights, *learned_values])
        learner = problem.learner
        gradients = learner.filled(gradients, [*learner.variables, *learned])
        return Estimate(
            result.loss,
            gradients,
            result.predictions,
            result.state,
            problem.adapted(trajectory),
        )

    def loss(self, problem: TaskProblem) -> Any:
        return self.objective(problem, problem.trajectory()).loss

    def title(self, inner: InnerLoop) -> str:
        order = "second" if inner.second_order else "first"
        return f"{type(self).__name__}, {order} order"

    def is_derivative(self, inner: InnerLoop) -> bool:
        return inner.second_order


@keras.saving.register_keras_serializable(package="maml_keras")
class FirstOrder(QueryGradient):
    """`Backprop` with the inner gradients as constants (first-order MAML).

    For `FinalStep` this is the query gradient at the adapted weights,
    `d L(query; phi) / d phi` at `phi_K`. Learned rates still get their gradient.

    Args:
        objective: an `Objective`; None for `FinalStep()`.

    Reference: Finn et al., 2017, https://arxiv.org/abs/1703.03400, section 5.2

    >>> import maml_keras as mk
    >>> inner = mk.InnerLoop("mse", mk.SGD(0.1), steps=2)
    >>> mk.FirstOrder().title(inner)
    'FirstOrder'
    """

    def __call__(self, problem: TaskProblem) -> Estimate:
        return Backprop(self.objective)(problem.first_order())

    def is_derivative(self, inner: InnerLoop) -> bool:
        return False


@keras.saving.register_keras_serializable(package="maml_keras")
class Phases(MetaGradient):
    """Uses one estimator after another during training.

    `phases[i]` is in use until `until[i]` meta-steps are taken, the last phase until
    the end. Only the phase in use costs time. Derivative-order annealing (MAML++):

        Phases([FirstOrder(), Backprop()], until=[25_000])

    Args:
        phases: list of `MetaGradient`s.
        until: list of ints above 0, rising, one entry fewer than `phases`.

    Raises:
        ValueError: if `until` does not rise or has another length.

    Reference: Antoniou et al., 2019, https://arxiv.org/abs/1810.09502

    >>> import maml_keras as mk
    >>> inner = mk.InnerLoop("mse", mk.SGD(0.1))
    >>> phases = mk.Phases([mk.FirstOrder(), mk.Backprop()], until=[100])
    >>> phases.title(inner)
    'FirstOrder then Backprop, second order'
    """

    def __init__(self, phases: list[MetaGradient], *, until: list[int]) -> None:
        rising = all(a < b for a, b in itertools.pairwise([0, *until]))
        if len(phases) != len(until) + 1 or not rising:
            raise ValueError(
                "`until` must be rising meta-steps above 0, one entry fewer than "
                f"`phases`. Received: {len(phases)} phases and until={list(until)}."
            )
        self.phases = list(phases)
        self.until = [int(n) for n in until]

    def __call__(self, problem: TaskProblem) -> Estimate:
        branches = [functools.partial(_whole, phase, problem) for phase in self.phases]
        result = branches[-1]
        for end, branch in reversed(list(zip(self.until, branches))):
            result = functools.partial(tf.cond, problem.iteration < end, branch, result)
        estimate, known = result()
        predictions = masks.put_back(estimate.predictions, known)
        return Estimate(*estimate)._replace(predictions=predictions)

    def check(self, inner: InnerLoop) -> None:
        for phase in self.phases:
            phase.check(inner)

    @property
    def scales_with_loss(self) -> bool:  # type: ignore[override]
        return all(phase.scales_with_loss for phase in self.phases)

    def remaining_scale(self, scale: Any, *, iteration: Any) -> Any:
        each = [p.remaining_scale(scale, iteration=iteration) for p in self.phases]
        remaining = each[-1]
        for end, phase in reversed(list(zip(self.until, each))):
            remaining = tf.where(iteration < end, phase, remaining)
        return remaining

    def title(self, inner: InnerLoop) -> str:
        titles = [phase.title(inner) for phase in self.phases]
        return " then ".join(dict.fromkeys(titles))

    def is_derivative(self, inner: InnerLoop) -> bool:
        return all(phase.is_derivative(inner) for phase in self.phases)

    def get_config(self) -> dict[str, Any]:
        phases = [keras.saving.serialize_keras_object(p) for p in self.phases]
        return {"phases": phases, "until": self.until}


def _whole(phase: MetaGradient, problem: TaskProblem) -> tuple[Estimate, Any]:
    """An estimate with all its parts, so that any two phases have the same form.

    Returns:
        The estimate, and the masks of its predictions, which a branch would lose.
    """
    estimate = phase(problem)
    start = problem.inner.selected(problem.learner, problem.weights)
    estimate = estimate._replace(adapted=list(estimate.adapted) or start)
    return estimate, masks.taken(estimate.predictions)

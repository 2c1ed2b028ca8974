"""Reptile: the path of the inner loop as a meta-gradient."""

from __future__ import annotations

import keras
import tensorflow as tf

from maml_keras.inner.loop import InnerLoop
from maml_keras.outer.meta_gradients import Estimate, MetaGradient
from maml_keras.outer.objectives import FinalStep, TaskProblem


@keras.saving.register_keras_serializable(package="maml_keras")
class Reptile(MetaGradient):
    """`phi_0 - phi_K`: the outer optimizer moves towards the adapted weights.

    No gradient passes through the inner loop, so memory is that of one step. The query
    set serves only the reported loss, the metrics and the moving statistics of batch
    norm, so put most examples into the support set. With `keras.optimizers.SGD(e)` as
    outer optimizer this is the paper's `theta <- theta + e * mean(phi_K - theta)`.
    Learned variables of the rule or the start and weights that do not adapt get a zero
    gradient.

    Reference: Nichol et al., 2018, https://arxiv.org/abs/1803.02999

    >>> import maml_keras as mk
    >>> inner = mk.InnerLoop("mse", mk.SGD(0.1), steps=2)
    >>> mk.Reptile().title(inner)
    'Reptile'
    """

    scales_with_loss = False

    def __call__(self, problem: TaskProblem) -> Estimate:
        problem = problem.first_order()
        trajectory = problem.trajectory()
        result = FinalStep()(problem, trajectory)
        ends = trajectory[0].weights, trajectory[-1].weights
        gradients = [start - end for start, end in zip(*ends)]
        learned = problem.inner.trainable_variables
        zeros = [tf.zeros(v.shape, v.dtype) for v in learned]
        return Estimate(
            result.loss,
            [*gradients, *zeros],
            result.predictions,
            result.state,
            problem.adapted(trajectory),
        )

    def is_derivative(self, inner: InnerLoop) -> bool:
        return False

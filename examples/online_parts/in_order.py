"""Meta-training for a sequence: each inner step sees its own task, in their order.

The inner loop of Javed and White, 2019, arXiv 1905.12588 (OML), as a meta-gradient.
"""

from __future__ import annotations

from typing import Any

import keras

import maml_keras as mk


@keras.saving.register_keras_serializable(package="online")
class InOrder(mk.MetaGradient):
    """`Backprop` through steps that see one part of the support set after another.

    Step k sees part `k * parts // steps`, the query set holds examples of all parts. So
    the initialisation is trained for the end of the sequence: later parts are learned,
    and earlier ones are not forgotten.

    Args:
        parts: int, into how many equal parts the support set is cut.
    """

    def __init__(self, parts: int) -> None:
        self.parts = parts

    def __call__(self, problem: Any) -> Any:
        """The estimate of one sequence."""
        return mk.Backprop()(
            problem._replace(inner=_Ordered(problem.inner, self.parts))
        )

    def title(self, inner: mk.InnerLoop) -> str:
        """The name on a card."""
        return f"Backprop, {self.parts} tasks in their order"

    def get_config(self) -> dict[str, Any]:
        """The constructor's argument as plain data."""
        return {"parts": self.parts}


class _Ordered:
    """An inner loop whose trajectory walks through the parts of a support set."""

    def __init__(self, inner: mk.InnerLoop, parts: int) -> None:
        self.inner, self.parts = inner, parts
        self.trainable_variables = inner.trainable_variables
        self.selected = inner.selected

    def trajectory(
        self, learner: Any, weights: Any, state: Any, x: Any, y: Any, *, training: bool
    ) -> list[Any]:
        """The points after 0, 1, .. K steps."""
        how = {"training": training}
        points = [self.inner.start(learner, weights, state, x, y, **how)]
        rows, steps = x.shape[0] // self.parts, self.inner.steps
        for k in range(steps):
            first = k * self.parts // steps * rows
            seen = [v[first : first + rows] for v in (x, y)]
            points.append(self.inner.step(learner, points[-1], *seen, step=k, **how))
        return points

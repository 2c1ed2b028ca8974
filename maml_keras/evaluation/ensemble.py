"""Evaluates several trained models on the same tasks, and the mean of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from maml_keras.evaluation.evaluate import evaluations
from maml_keras.evaluation.metrics import Named
from maml_keras.evaluation.result import Evaluation, half_width
from maml_keras.learner.losses import PureLoss
from maml_keras.outer.maml import MAML


@dataclasses.dataclass(frozen=True)
class Ensemble:
    """Evaluations of the members of an ensemble and of their mean, on the same tasks.

    Attributes:
        members: an `Evaluation` for each member.
        mean: the `Evaluation` of the mean of their predictions.

    >>> still = np.zeros([2, 1], bool)
    >>> def run(*values):
    ...     values = np.array(values)[:, None]
    ...     return Evaluation("accuracy", values, still, "layer", 5, True)
    >>> found = Ensemble([run(0.5, 0.7), run(0.6, 0.6)], run(0.8, 0.9))
    >>> round(found.gain()[0], 6)
    0.25
    """

    members: list[Evaluation]
    mean: Evaluation

    def gain(self, step: int = -1) -> tuple[float, float]:
        """The ensemble minus the average member, and half of its 95% interval.

        Paired by task, over the tasks on which nothing diverged.

        Args:
            step: int, the adaptation step; -1 for the last.
        """
        all_ = [*self.members, self.mean]
        kept = ~np.any([e.diverged_tasks[:, step] for e in all_], axis=0)
        average = np.mean([e.per_episode[:, step] for e in self.members], axis=0)
        gaps = (self.mean.per_episode[:, step] - average)[kept].astype(np.float64)
        mean = float(gaps.mean()) if gaps.size else float("nan")
        return mean, half_width(gaps)

    def table(self) -> str:
        """A Markdown table: a row for each member, and one for the ensemble."""
        metric = self.mean.metric
        head = ["", metric, "95% CI", "diverged"]
        calibrated = self.mean.calibration is not None
        if calibrated:
            head += ["ECE", "95% CI", "Brier", "NLL"]
        rows = [head, ["---"] * len(head)]
        names = [f"member {i}" for i in range(1, len(self.members) + 1)]
        for name, result in zip([*names, "ensemble"], [*self.members, self.mean]):
            row = [name, self._form(result.mean), f"± {self._form(result.half_width)}"]
            row.append(str(result.diverged[-1]))
            if (found := result.calibration) is not None:
                row += [f"{found.error():.2%}", f"± {found.half_width():.2%}"]
                row += [f"{found.brier():.4f}", f"{found.nll():.4f}"]
            rows.append(row)
        return "\n".join(f"| {' | '.join(row)} |" for row in rows)

    def summary(self) -> dict[str, Any]:
        """The figures as plain data that JSON can hold."""
        return {
            "members": [result.summary() for result in self.members],
            "ensemble": self.mean.summary(),
            "gain": [v if np.isfinite(v) else None for v in self.gain()],
        }

    def __str__(self) -> str:
        gap, half = self.gain()
        what = "predictions" if self.mean.calibration is None else "probabilities"
        return (
            f"ensemble of {len(self.members)}, the mean of their {what}: {self.mean}; "
            f"minus the average member, paired by task: {self._form(gap, '+')} ± "
            f"{self._form(half)}"
        )

    def _form(self, value: float, sign: str = "") -> str:
        share = self.mean.metric == "accuracy"
        return f"{value:{sign}.2%}" if share else f"{value:{sign}.4g}"


def evaluate_ensemble(
    mamls: Sequence[MAML],
    episodes: Any,
    *,
    steps: int | None = None,
    num_tasks: int = 600,
    metric: Named = None,
    higher_is_better: bool | None = None,
    queries: str = "together",
    verbose: str | int = "auto",
) -> Ensemble:
    """Adapts each model to the same tasks, and evaluates each and their mean.

    `p(y | x) = mean_m p_m(y | x)`: the mean of the probabilities with a cross-entropy,
    and of the predictions with any other loss.

    Args:
        mamls: at least two models, with the same outer loss and the same outputs.
        episodes: as for `evaluate_episodes`.
        steps: int, adaptation steps; None for the number in training.
        num_tasks: int, how many tasks to take.
        metric: as for `evaluate_episodes`.
        higher_is_better: as for `evaluate_episodes`.
        queries: `"together"` or `"alone"`.
        verbose: 0 for silence, else a progress bar.

    Returns:
        An `Ensemble`.

    Raises:
        ValueError: if there are fewer than two models, or if they do not fit together.

    Reference: Lakshminarayanan et al., 2017, https://arxiv.org/abs/1612.01474

    >>> import keras
    >>> import maml_keras as mk
    >>> def model(weight):
    ...     layer = keras.layers.Dense(1, use_bias=False)
    ...     net = keras.Sequential([keras.Input([1]), layer])
    ...     layer.set_weights([np.array([[weight]])])
    ...     return mk.MAML(net, mk.InnerLoop("mse", mk.SGD(0.1)))
    >>> x = np.ones([4, 5, 1], "float32")
    >>> batch = {"support_x": x, "support_y": 2 * x, "query_x": x}, 2 * x
    >>> found = evaluate_ensemble([model(1.0), model(3.0)], [batch], steps=0, verbose=0)
    >>> [one.mean for one in found.members], found.mean.mean  # 1 and 3 average to 2.
    ([1.0, 1.0], 0.0)
    """
    if len(mamls) < 2:
        raise ValueError(
            f"An ensemble needs at least two models. Received: {len(mamls)}."
        )
    losses = {_described(maml._outer_loss) for maml in mamls}
    if len(losses) > 1 or mamls[0]._outer_loss.parts is not None:
        raise ValueError(
            "The members of an ensemble must have the same outer loss, for one output. "
            f"Received: {', '.join(sorted(map(str, losses)))}. Evaluate each alone."
        )
    taken = {maml.inner.steps for maml in mamls}
    if steps is None and len(taken) > 1:
        raise ValueError(
            "`steps` must be given for models that were trained with different numbers "
            f"of steps. Received: {sorted(taken)}."
        )
    *members, mean = evaluations(
        mamls,
        episodes,
        steps=taken.pop() if steps is None else steps,
        num_tasks=num_tasks,
        metric=metric,
        higher_is_better=higher_is_better,
        queries=queries,
        learning_rate=None,
        verbose=verbose,
    )
    return Ensemble(members, mean)


def _described(loss: PureLoss) -> tuple[Any, ...]:
    return loss.name, loss.from_logits, loss.decision, loss.ignored_class

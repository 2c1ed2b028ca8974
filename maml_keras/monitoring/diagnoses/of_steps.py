"""Diagnoses of the inner steps: their rates and gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

import numpy as np

from maml_keras.evaluation.trace import InnerTrace
from maml_keras.monitoring.diagnoses.diagnosis import (
    CERTAIN,
    FEWEST_TASKS,
    Diagnosis,
    mean_and_error,
    on_end,
)
from maml_keras.monitoring.look import Look


@final
class BadTasks(Diagnosis):
    """Training tasks are left out, because their numbers are not finite.

    The condition: `MAML(bad_tasks="skip")` left out a task since the last look.

    >>> BadTasks().title
    'Training tasks are left out'
    """

    title = "Training tasks are left out"
    remedy = (
        "The log names the first of each epoch, with the number that is not finite. "
        "Clean the data, or lower the inner rate."
    )
    section = "a-task-that-is-not-a-number"

    def found(self, looks: Sequence[Look]) -> str | None:
        count = looks[-1].bad_tasks
        if not count:
            return None
        return (
            f"{count:,} training task(s) had a loss, an adapted weight or a "
            "meta-gradient that is not finite."
        )


@final
class RateTooLarge(Diagnosis):
    """The inner rate is too large: steps raise the support loss, or tasks diverge.

    The condition, in two consecutive looks and within the steps of training: at least
    2% of the tasks diverge, or the support loss after the last step exceeds that before
    the first by 4 standard errors over tasks and by 1%. If half of the tasks
    diverge, one look is enough.

    >>> RateTooLarge().title
    'The inner rate is too large'
    """

    title = "The inner rate is too large"
    remedy = (
        "Divide it by 3, or clip the inner gradients: `ClipByNorm(rule, 10.0)`. For "
        "learned rates, lower the outer rate. Standardise inputs and targets whose "
        "size is far from one."
    )
    section = "the-loss-is-nan-or-tasks-diverge"

    def found(self, looks: Sequence[Look]) -> str | None:
        for part, trace in looks[-1].traces.items():
            k = min(looks[-1].trained_steps, trace.steps)
            share = trace.diverged[:, k].mean()
            if share >= 0.5:
                return (
                    f"After {k} inner step(s) {share:.0%} of the {part} tasks have "
                    "diverged."
                )
        for part, traces in on_end(looks, 2):
            last = looks[-1].trained_steps
            texts = [self._judged(part, trace, last) for trace in traces]
            if all(texts):
                return texts[-1]
        return None

    @staticmethod
    def _judged(part: str, trace: InnerTrace, last: int) -> str | None:
        k = min(last, trace.steps)
        diverged = int(trace.diverged[:, k].sum())
        if k and diverged >= max(2, 0.02 * trace.num_tasks):
            return (
                f"After {k} inner step(s) {diverged} of {trace.num_tasks} {part} tasks "
                "have diverged."
            )
        loss = trace.support_loss
        kept = np.isfinite(loss).all(axis=1)
        if kept.sum() < FEWEST_TASKS:
            return None
        rise, error = mean_and_error((loss[:, k] - loss[:, 0])[kept])
        if rise > CERTAIN * error and rise > 0.01 * abs(loss[kept, 0].mean()):
            return (
                f"On {part} tasks {k} inner step(s) raise the loss of the support set "
                f"from {loss[kept, 0].mean():.4g} to {loss[kept, k].mean():.4g}, where "
                "they should lower it."
            )
        return None


@final
class RunawayRate(Diagnosis):
    """A learned rate diverges: it is not finite, or far from its start and growing.

    The condition: a layer's mean rate is not finite; or the mean rate is more than ten
    times its initial value and more than 1.5 times its value two looks ago, and the
    median query loss after the steps of training has not fallen since then. A rate that
    began too small may rise a hundredfold while the loss falls, which is no problem.

    >>> RunawayRate().title
    'A learned inner rate runs away'
    """

    title = "A learned inner rate runs away"
    remedy = (
        'Lower the outer rate, or bound the rates with `constraint="non_neg"` or '
        "another of `keras.constraints`."
    )
    section = "the-loss-is-nan-or-tasks-diverge"

    def found(self, looks: Sequence[Look]) -> str | None:
        rates = looks[-1].rates
        if rates is None:
            return None
        now = np.abs(rates.table)
        before = looks[max(0, len(looks) - 3)].rates
        with np.errstate(invalid="ignore"):
            far = now > 10.0 * np.abs(rates.start)
            growing = now > 1.5 * np.abs(before.table) if before else far
        runs = far & growing & (len(looks) >= 3 and not self._gains(looks))
        bad = ~np.isfinite(rates.table) | runs
        if not bad.any():
            return None
        step, layer = (int(i[0]) for i in np.nonzero(bad))
        # A table with one row has the same rate for all steps.
        when = f" at inner step {step + 1}" if len(rates.table) > 1 else ""
        return (
            f"The rate of layer '{rates.layers[layer]}'{when} was "
            f"{rates.start[step, layer]:.3g}, and is {rates.table[step, layer]:.3g} "
            f"after {looks[-1].iteration:,} meta-steps."
        )

    @staticmethod
    def _gains(looks: Sequence[Look]) -> bool:
        """Whether the median query loss has fallen since two looks ago."""
        last = looks[-1].trained_steps
        medians: list[float] = []
        for look in (looks[-3], looks[-1]):
            trace = look.traces[look.main]
            loss = trace.query_loss[:, min(last, trace.steps)]
            medians.append(float(np.median(loss)))
        return medians[1] < medians[0]


@final
class VanishedGradient(Diagnosis):
    """The inner gradient of a layer is zero, or nearly zero.

    The condition: in two consecutive looks and at every inner step, a layer's mean
    gradient norm is at most a millionth of the largest layer's.

    >>> VanishedGradient().title
    'An inner gradient vanished'
    """

    title = "An inner gradient vanished"
    remedy = (
        "Look for an activation that saturates or died (ReLU with large negative "
        "biases), a `stop_gradient`, or weights that start at zero. Or leave the layer "
        "out of `adapt`."
    )
    section = "an-inner-gradient-vanished"

    def found(self, looks: Sequence[Look]) -> str | None:
        for part, traces in on_end(looks, 2):
            gone = set.intersection(*(self._gone(trace) for trace in traces))
            if gone:
                trace = traces[-1]
                layers = [layer for layer in trace.layers if layer in gone]
                sizes = dict(zip(trace.layers, _peaks(trace)))
                return (
                    f"On {part} tasks the inner gradient of "
                    f"{', '.join(repr(layer) for layer in layers)} has the norm "
                    f"{max(sizes[layer] for layer in layers):.1e}; the largest of all "
                    f"layers has {max(sizes.values()):.1e}."
                )
        return None

    @staticmethod
    def _gone(trace: InnerTrace) -> set[str]:
        peaks = _peaks(trace)
        if not peaks.size or not np.isfinite(peaks).all():
            return set()
        return {
            layer
            for layer, peak in zip(trace.layers, peaks)
            if peak <= 1e-6 * peaks.max()
        }


def _peaks(trace: InnerTrace) -> Any:
    """Each layer's mean gradient norm at the inner step where it is largest.

    Diverged tasks are left out: their norms would make those of a healthy layer seem
    small.
    """
    norms = trace.gradient_norms[~trace.diverged.any(axis=1)]
    if not norms.size:
        return np.zeros([0])
    return norms.mean(axis=0).max(axis=0)

"""What adaptation brings: nothing, too much to be true, or nothing more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

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
class LabelLeak(Diagnosis):
    """Accuracy above chance before adaptation.

    Without its support set a network cannot know which class is called 0. Found if the
    mean accuracy at step 0 exceeds that of a guess by 4 standard errors over tasks, and
    by 2 points. Judged where targets are classes. A start that has seen the
    support set, such as `PrototypicalHead`, is not judged.
    """

    title = "Labels leak"
    remedy = (
        "Draw the class numbers anew for each task, as `NWayKShot` does, and look for "
        "the label in the inputs."
    )
    section = "accuracy-is-above-chance-before-adaptation"

    def found(self, looks: Sequence[Look]) -> str | None:
        look = looks[-1]
        for part, trace in look.traces.items():
            if not look.blank_start or trace.chance is None:
                continue
            if trace.metric != "accuracy" or trace.num_tasks < FEWEST_TASKS:
                continue
            accuracy = trace.query_metric[:, 0]
            excess, error = mean_and_error(accuracy - trace.chance)
            if excess > max(0.02, CERTAIN * error):
                return (
                    f"Before adaptation the accuracy on {part} tasks is "
                    f"{accuracy.mean():.1%} ± {1.96 * error:.1%}, where a guess has "
                    f"{trace.chance:.1%}."
                )
        return None


@final
class NoGain(Diagnosis):
    """Adaptation does not help: the first step gains nothing, nor do those after it.

    Found if in three looks on end no inner step lowers the query loss by 1%, with the
    upper end of the interval over tasks.
    """

    title = "Adaptation does not help"
    remedy = (
        "Raise the inner rate tenfold, or learn it (`MetaSGD`); with weights near "
        "zero, train on; if the loss is low already, the tasks can be solved without "
        "their support sets."
    )
    section = "adaptation-does-not-help-step-1-is-no-better-than-step-0"

    def found(self, looks: Sequence[Look]) -> str | None:
        for part, traces in on_end(looks, 3):
            last = looks[-1].trained_steps
            if all(self._idle(trace, last) for trace in traces):
                loss = traces[-1].query_loss
                return (
                    f"After {looks[-1].iteration:,} meta-steps the query loss on "
                    f"{part} tasks is {loss[:, 0].mean():.4g} before adaptation and "
                    f"{loss[:, 1].mean():.4g} after the first step."
                )
        return None

    @staticmethod
    def _idle(trace: InnerTrace, last: int) -> bool:
        steps = range(1, min(last, trace.steps) + 1)
        return bool(steps) and all(_gains_nothing(trace, 0, k) for k in steps)


@final
class IdleSteps(Diagnosis):
    """Inner steps after the first gain nothing.

    Found if in three looks on end the first step lowers the query loss by 1%, with the
    lower end of the interval, and the last one of training is not 1% below the first,
    with the upper end.
    """

    title = "Steps after the first do nothing"
    remedy = (
        "One inner step is as good and costs less; or learn a rate for each step "
        "(`PerStepSGD`), or weigh the loss of every step (`MultiStep`)."
    )
    section = "steps-after-the-first-do-nothing"

    def found(self, looks: Sequence[Look]) -> str | None:
        last = looks[-1].trained_steps
        if last < 2:
            return None
        for part, traces in on_end(looks, 3):
            if all(
                trace.steps >= last
                and _gains(trace, 0, 1)
                and _gains_nothing(trace, 1, last)
                for trace in traces
            ):
                loss = traces[-1].query_loss
                return (
                    f"On {part} tasks the query loss is {loss[:, 0].mean():.4g} before "
                    f"adaptation, {loss[:, 1].mean():.4g} after the first step and "
                    f"{loss[:, last].mean():.4g} after step {last}."
                )
        return None


def _gains_nothing(trace: InnerTrace, before: int, after: int) -> bool:
    """True if the query loss surely does not fall by 1% between two steps."""
    gain, error, scale = _gain(trace, before, after)
    return gain + 1.96 * error < 0.01 * scale


def _gains(trace: InnerTrace, before: int, after: int) -> bool:
    """True if the query loss surely falls by 1% between two steps."""
    gain, error, scale = _gain(trace, before, after)
    return gain - 1.96 * error > 0.01 * scale


def _gain(trace: InnerTrace, before: int, after: int) -> tuple[float, float, float]:
    """How far the query loss falls, the standard error, and how large it was.

    Diverged tasks are another diagnosis: with few left the gain is not a number, and
    nothing is sure.
    """
    loss = trace.query_loss
    kept = ~trace.diverged[:, [before, after]].any(axis=1)
    if kept.sum() < FEWEST_TASKS:
        return float("nan"), float("nan"), float("nan")
    gain, error = mean_and_error((loss[:, before] - loss[:, after])[kept])
    return gain, error, float(abs(loss[kept, before].mean()))

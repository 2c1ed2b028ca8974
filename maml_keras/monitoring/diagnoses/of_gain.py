"""Diagnoses of the gain of adaptation: a leak of labels, no gain, idle steps."""

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

    Without its support set a network cannot know which class is called 0. The
    condition: at step 0, the mean accuracy exceeds the accuracy of a guess by 4
    standard errors over tasks, and by 2 points. Only tasks of classes are judged. A
    start that uses the support set, such as `PrototypicalHead`, is not judged.

    >>> LabelLeak().title
    'Labels leak'
    """

    title = "Labels leak"
    remedy = (
        "Draw new class numbers for each task, as `NWayKShot` does, and check whether "
        "the inputs contain the label."
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
                    f"{accuracy.mean():.1%} ± {1.96 * error:.1%}; a guess has "
                    f"{trace.chance:.1%}."
                )
        return None


@final
class NoGain(Diagnosis):
    """Adaptation does not help: no inner step lowers the query loss.

    The condition: in three consecutive looks, the query loss after every inner step is
    less than 1% below that before adaptation, even at the upper end of the 95%
    interval over tasks.

    >>> NoGain().title
    'Adaptation does not help'
    """

    title = "Adaptation does not help"
    remedy = (
        "Raise the inner rate tenfold, or learn it (`MetaSGD`). If the weights are "
        "still near zero, train longer. If the loss is low already, the tasks can be "
        "solved without their support sets."
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

    The condition: in three consecutive looks, the first step lowers the query loss by
    more than 1%, even at the lower end of the 95% interval over tasks, and the further
    steps of training lower it by less than 1%, even at the upper end.

    >>> IdleSteps().title
    'Steps after the first do nothing'
    """

    title = "Steps after the first do nothing"
    remedy = (
        "Take one inner step, which is as good and costs less. Or learn a rate for "
        "each step (`PerStepSGD`), or weigh the loss of every step (`MultiStep`)."
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
    """Whether the query loss surely falls by less than 1% between two steps."""
    gain, error, scale = _gain(trace, before, after)
    return gain + 1.96 * error < 0.01 * scale


def _gains(trace: InnerTrace, before: int, after: int) -> bool:
    """Whether the query loss surely falls by more than 1% between two steps."""
    gain, error, scale = _gain(trace, before, after)
    return gain - 1.96 * error > 0.01 * scale


def _gain(trace: InnerTrace, before: int, after: int) -> tuple[float, float, float]:
    """The fall of the query loss, its standard error, and the loss before the fall.

    Diverged tasks are left out, because another diagnosis reports them. If too few
    tasks remain, all three are NaN and nothing is sure.
    """
    loss = trace.query_loss
    kept = ~trace.diverged[:, [before, after]].any(axis=1)
    if kept.sum() < FEWEST_TASKS:
        return float("nan"), float("nan"), float("nan")
    gain, error = mean_and_error((loss[:, before] - loss[:, after])[kept])
    return gain, error, float(abs(loss[kept, before].mean()))

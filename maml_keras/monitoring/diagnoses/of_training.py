"""Diagnosis of meta-training as a whole: is it better than none?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

from maml_keras.evaluation.trace import InnerTrace
from maml_keras.monitoring.diagnoses.diagnosis import (
    FEWEST_TASKS,
    Diagnosis,
    mean_and_error,
)
from maml_keras.monitoring.look import Look

LOOKS = 5


@final
class NoBetterThanUntrained(Diagnosis):
    """The same adaptation of a network without meta-training is as good.

    The bar is the better of two: the network that training began with, which may be a
    pretrained one, and one with random weights. Both adapt once, at the first look, to
    the same tasks, with the same rule and steps.

    The condition, in the second half of a run: in five consecutive looks neither the
    query loss nor the metric is better than the bar, and neither has become better over
    these looks. Better means: by 1%, and at the lower end of the 95% interval over
    tasks.

    >>> NoBetterThanUntrained().title
    'No better than without meta-training'
    """

    title = "No better than without meta-training"
    remedy = (
        "If every start solves the tasks, fine-tune an ordinary network instead. If "
        "not, look at the outer rate, at the inner rate and at the tasks; `maml-keras "
        "compare` has baselines that choose their own rates."
    )
    section = "no-better-than-without-meta-training"

    def found(self, looks: Sequence[Look]) -> str | None:
        look = looks[-1]
        if len(looks) < LOOKS or not look.references or look.progress < 0.5:
            return None
        traces = [past.traces[past.main] for past in looks[-LOOKS:]]
        k = min(look.trained_steps, traces[-1].steps)
        name, bar = min(
            look.references.items(), key=lambda item: item[1].query("loss").curve[k]
        )
        newest, oldest = traces[-1], traces[0]
        if any(_is_better(trace, bar, k) for trace in traces):
            return None
        if _is_better(newest, oldest, k):
            return None  # Training goes on.
        ours, theirs = (t.query("loss").curve[k] for t in (newest, bar))
        return (
            f"After {look.iteration:,} meta-steps and {k} inner step(s) the query loss "
            f"on {look.main} tasks is {ours:.4g}. Adapted in the same way, {name} has "
            f"{theirs:.4g}."
        )


def _is_better(trace: InnerTrace, other: InnerTrace, k: int) -> bool:
    """Whether the loss or the metric is surely better, and by more than 1%.

    If too few tasks of both are left, because they diverged, nothing is judged: the
    answer is yes.
    """
    kept = ~(trace.diverged | other.diverged)[:, k]
    if kept.sum() < FEWEST_TASKS:
        return True
    signs: list[tuple[Any, Any, float]] = [
        (trace.query_loss, other.query_loss, -1.0),
        (
            trace.query_metric,
            other.query_metric,
            {True: 1.0, False: -1.0, None: 0.0}[trace.query().higher_is_better],
        ),
    ]
    for ours, theirs, sign in signs:
        gain, error = mean_and_error(sign * (ours - theirs)[kept, k])
        if gain > max(1.96 * error, 0.01 * abs(theirs[kept, k].mean())):
            return True
    return False

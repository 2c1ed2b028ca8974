"""What the numbers of a run say is wrong, in plain words, and what to do about it."""

from __future__ import annotations

import abc
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from maml_keras.inner_trace import InnerTrace
from maml_keras.looks import Look

# A run is looked at dozens of times: at 1.96 standard errors a healthy one would be
# accused of something before its end.
CERTAIN = 4.0
FEWEST_TASKS = 10


@dataclass(frozen=True)
class Finding:
    """What a diagnosis found.

    Attributes:
        title: str, the diagnosis in three or four words.
        text: str, a sentence with the numbers that say so.
        remedy: str, what to do.
        section: str, the section of the page Troubleshooting that goes on from here.
    """

    title: str
    text: str
    remedy: str
    section: str

    def __str__(self) -> str:
        return (
            f"{self.title}. {self.text} {self.remedy} "
            f"(docs/troubleshooting.md#{self.section})"
        )


class Diagnosis(abc.ABC):
    """Numbers in, a sentence or nothing out.

    Attributes:
        title: str, what it says when it finds something.
        remedy: str, what to do.
        section: str, the section of Troubleshooting.
    """

    title: str
    remedy: str
    section: str

    def __call__(self, looks: Sequence[Look]) -> Finding | None:
        """The finding, or None.

        Args:
            looks: the last looks at a run, the newest last.
        """
        text = self.found(looks)
        return (
            None
            if text is None
            else Finding(self.title, text, self.remedy, self.section)
        )

    @abc.abstractmethod
    def found(self, looks: Sequence[Look]) -> str | None:
        """A sentence that says what is wrong with which numbers, or None."""


@final
class LabelLeak(Diagnosis):
    """Accuracy above chance before adaptation.

    Without its support set a network cannot know which class is called 0. Found if the
    mean accuracy at step 0 exceeds that of a guess by 4 standard errors over tasks, and
    by 2 points. A start that has seen the support set, such as `PrototypicalHead`, is
    not judged.
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
            excess, error = _mean_and_error(accuracy - trace.chance)
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
        for part, traces in _on_end(looks, 3):
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

    Found if in three looks on end the first step lowers the query loss, and the last
    one of training is not 1% below the first, with the upper end of the interval.
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
        for part, traces in _on_end(looks, 3):
            if all(
                trace.steps >= last
                and not _gains_nothing(trace, 0, 1)
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


@final
class RateTooLarge(Diagnosis):
    """The inner rate diverges: steps lead uphill, or tasks run away.

    Found if in two looks on end, within the steps of training, at least 2% of the tasks
    diverge, or the support loss after the last step is above that before the first by 4
    standard errors over tasks. If half of the tasks diverge one look is enough.
    """

    title = "The inner rate is too large"
    remedy = (
        "Divide it by 3, or keep gradients short: "
        "`ClipByNorm(rule, 10.0)`; learned rates want a lower outer rate."
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
        for part, traces in _on_end(looks, 2):
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
        rise, error = _mean_and_error((loss[:, k] - loss[:, 0])[kept])
        if rise > CERTAIN * error and rise > 0.01 * abs(loss[kept, 0].mean()):
            return (
                f"On {part} tasks {k} inner step(s) raise the loss of the support set, "
                f"which they are to lower, from {loss[kept, 0].mean():.4g} to "
                f"{loss[kept, k].mean():.4g}."
            )
        return None


@final
class RunawayRate(Diagnosis):
    """A learned rate diverges: not finite, or far from its start and growing.

    Found if a layer's mean rate is not finite; or more than ten times what it was at
    the first look, and half as much again as two looks ago, while the query loss after
    the steps of training has not fallen since. A rate that began too small may rise a
    hundredfold, and the loss falls.
    """

    title = "A learned inner rate runs away"
    remedy = (
        'Lower the outer rate, or bound the rates with `constraint="non_neg"` or a '
        "`keras.constraints` of your own."
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
        return (
            f"The rate of layer '{rates.layers[layer]}' at inner step {step + 1} was "
            f"{rates.start[step, layer]:.3g}, and is {rates.table[step, layer]:.3g} "
            f"after {looks[-1].iteration:,} meta-steps."
        )

    @staticmethod
    def _gains(looks: Sequence[Look]) -> bool:
        """True if the median query loss has fallen since two looks ago."""
        last = looks[-1].trained_steps
        medians: list[float] = []
        for look in (looks[-3], looks[-1]):
            trace = look.traces[look.main]
            loss = trace.query_loss[:, min(last, trace.steps)]
            medians.append(float(np.median(loss)))
        return medians[1] < medians[0]


@final
class VanishedGradient(Diagnosis):
    """The inner gradient of a layer is zero, or as good as zero.

    Found if in two looks on end a layer's mean gradient norm is, at every inner step,
    below a millionth of the largest layer's.
    """

    title = "An inner gradient vanished"
    remedy = (
        "Look for an activation that saturates or died (ReLU with large negative "
        "biases), a `stop_gradient`, or weights that start at zero; or leave the layer "
        "out of `adapt`."
    )
    section = "an-inner-gradient-vanished"

    def found(self, looks: Sequence[Look]) -> str | None:
        for part, traces in _on_end(looks, 2):
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


def all_diagnoses() -> list[Diagnosis]:
    """One of each.

    >>> len(all_diagnoses())
    6
    """
    return [
        LabelLeak(),
        NoGain(),
        IdleSteps(),
        RateTooLarge(),
        RunawayRate(),
        VanishedGradient(),
    ]


def _on_end(
    looks: Sequence[Look], count: int
) -> Iterator[tuple[str, list[InnerTrace]]]:
    """Each part with its last traces, if there were so many looks and enough tasks."""
    if len(looks) < count:
        return
    for part, trace in looks[-1].traces.items():
        if trace.num_tasks >= FEWEST_TASKS and trace.steps:
            yield part, [look.traces[part] for look in looks[-count:]]


def _gains_nothing(trace: InnerTrace, before: int, after: int) -> bool:
    """True if the query loss surely does not fall by 1% between two steps."""
    loss = trace.query_loss
    kept = ~trace.diverged[:, [before, after]].any(axis=1)
    if kept.sum() < FEWEST_TASKS:
        return False  # Another diagnosis.
    gain, error = _mean_and_error((loss[:, before] - loss[:, after])[kept])
    return bool(gain + 1.96 * error < 0.01 * abs(loss[kept, before].mean()))


def _peaks(trace: InnerTrace) -> Any:
    """Each layer's mean gradient norm at the inner step where it is largest."""
    if not trace.gradient_norms.shape[1]:
        return np.zeros([0])
    return trace.gradient_norms.mean(axis=0).max(axis=0)


def _mean_and_error(values: Any) -> tuple[float, float]:
    values = np.asarray(values, dtype=np.float64)
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(values.size))

"""The rate, steps and regularisation that a baseline chooses for itself."""

from __future__ import annotations

import copy
import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from maml_keras import data
from maml_keras.evaluation.metrics import direction, mean_of_task, named_metric
from maml_keras.experiments import fixed_tasks
from maml_keras.experiments.preset import Families, Preset
from maml_keras.learner import masks
from maml_keras.learner.weights import passes_of, support_of
from maml_keras.outer.maml import MAML

# The rates of the grid as multiples of the preset's inner rate.
RATES = 0.1, 0.3, 1.0, 3.0, 10.0
# The steps of the grid: none, one, and these multiples of the preset's test steps.
STEPS = 1, 5
VALIDATION_TASKS = 100


class Grid(NamedTuple):
    """The settings among which a baseline chooses.

    Attributes:
        rates: inner learning rates.
        steps: numbers of inner steps.
        regularizations: weights of the pull back to the start of the inner loop.
    """

    rates: tuple[float, ...]
    steps: tuple[int, ...]
    regularizations: tuple[float, ...] = (0.0,)

    def __str__(self) -> str:
        rates, steps, pulls = (", ".join(f"{v:g}" for v in values) for values in self)
        pulled = len(self.regularizations) > 1
        return f"rates {rates}; steps {steps}" + (
            f"; regularisation of a linear probe {pulls}" if pulled else ""
        )

    def edges(self, choice: Choice) -> list[str]:
        """At which ends of the grid a choice lies, so that a larger grid may be better.

        No steps are no end, because fewer are not possible.

        >>> Grid((0.1, 0.3, 1.0), (0, 1, 5)).edges(Choice(0.3, 5))
        ['the most steps']
        """
        ends = {
            "the most steps": choice.steps == self.steps[-1],
            "the highest rate": choice.learning_rate == self.rates[-1],
            "the lowest rate": choice.learning_rate == self.rates[0],
            "the most regularisation": choice.regularization
            == self.regularizations[-1]
            != 0.0,
        }
        return [name for name, at_end in ends.items() if at_end and choice.steps]


class Choice(NamedTuple):
    """What a baseline chose on validation tasks.

    Attributes:
        learning_rate: float, the inner rate.
        steps: int, inner steps.
        regularization: float, `InnerLoop(proximal=)`.
    """

    learning_rate: float
    steps: int
    regularization: float = 0.0

    def __str__(self) -> str:
        plural = "" if self.steps == 1 else "s"
        pull = f", regularised by {self.regularization:g}"
        return f"{self.steps} step{plural} of {self.learning_rate:g}" + (
            pull if self.regularization else ""
        )

    @classmethod
    def of(cls, maml: MAML) -> Choice:
        """The settings of a model that a choosing baseline returned."""
        rate = float(maml.rule.fixed_rate or 0.0)
        return cls(rate, maml.inner.steps, maml.inner.proximal)


def grid(preset: Preset, regularizations: tuple[float, ...] = (0.0,)) -> Grid:
    """The grid for a preset: around its inner rate, and up to five times its steps.

    Args:
        preset: gives the rate and the steps.
        regularizations: rising, at least one.

    >>> from maml_keras.experiments import get
    >>> str(grid(get("sinusoid")))
    'rates 0.001, 0.003, 0.01, 0.03, 0.1; steps 0, 1, 10, 50'
    """
    rates = (float(f"{preset.inner_rate * r:.6g}") for r in RATES)
    steps = {0, 1, *(n * preset.evaluation_steps for n in STEPS)}
    return Grid(tuple(rates), tuple(sorted(steps)), regularizations)


def with_own_settings(maml: MAML, preset: Preset, families: Families) -> MAML:
    """The network with the rate and the steps that are best on validation tasks.

    Fine-tuning needs another rate and more steps than a meta-trained network, so a
    baseline with the settings of MAML would be too weak. The test tasks are not used.

    Args:
        maml: the trained network of a baseline.
        preset: gives the grid.
        families: the first 100 validation tasks decide.

    Returns:
        A new `MAML` with the same weights, whose rule and steps are those chosen.
    """
    choice = best(maml, families.validation, grid(preset))
    variation = preset.variation("maml")
    own = dataclasses.replace(
        preset,
        inner_rate=choice.learning_rate,
        inner_steps=choice.steps,
        variations={
            **preset.variations,
            "maml": dataclasses.replace(variation, learning_rate=None, steps=None),
        },
    ).build()
    for ours, theirs in zip(own.model.variables, maml.model.variables, strict=True):
        ours.assign(theirs)
    return own


def best(maml: MAML, family: data.TaskFamily, grid: Grid) -> Choice:
    """The setting of the grid with the best mean metric on validation tasks.

    Among equals, the fewest steps, then the smallest rate and the least regularisation
    win. A mean that is not finite is the worst.
    """
    batches = list(
        data.episodes(
            family,
            batch_size=20,
            seed=fixed_tasks.VALIDATION_SEED,
            num_episodes=VALIDATION_TASKS,
        )
    )
    measures = {pull: _compiled(maml, pull) for pull in grid.regularizations}
    name, _ = measures[grid.regularizations[0]]
    sign = 1.0 if direction(name) else -1.0
    settings = [
        Choice(rate, steps, pull)
        for steps, rate, pull in itertools.product(
            grid.steps, grid.rates, grid.regularizations
        )
        # Without steps, the others make no difference.
        if steps or (rate, pull) == (grid.rates[0], grid.regularizations[0])
    ]
    means = [
        _mean(measures[choice.regularization][1], batches, choice)
        for choice in settings
    ]
    scores = np.where(np.isfinite(means), sign * np.array(means), -np.inf)
    return settings[int(np.argmax(scores))]


def _mean(measure: Any, batches: Sequence[Any], choice: Choice) -> float:
    rate, steps = tf.constant(choice.learning_rate), tf.constant(choice.steps)
    return float(np.mean(np.concatenate([measure(*b, rate, steps) for b in batches])))


def _compiled(maml: MAML, regularization: float) -> tuple[str, Any]:
    """A metric's name, and `(task, query_y, rate, steps) -> [tasks]`, traced once."""
    name, function = named_metric(maml._outer_loss, None)
    learner, inner = maml.learner, copy.copy(maml.inner)
    inner.proximal = regularization

    def measure(task: Any, query_y: Any, rate: Any, steps: Any) -> Any:
        def one(element: dict[str, Any]) -> tuple[Any, Any]:
            task = element["task"]
            point = inner.adapt(
                learner,
                learner.weights(),
                learner.state(),
                *support_of(task),
                steps=steps,
                learning_rate=rate,
            )
            output = learner.query(
                point.weights,
                point.state,
                task["support_x"],
                task["query_x"],
                training=False,
                step=steps,
                **passes_of(task),
            ).predictions
            loss = maml._outer_loss(element["query_y"], output)
            return (), (loss, output, masks.taken(output))

        mapped = maml.task_map.fitted(learner, task)(
            one, {"task": task, "query_y": query_y}
        )
        losses, outputs, known = mapped[1]
        if function is None:
            return losses
        return tf.map_fn(
            lambda parts: mean_of_task(function, parts),
            (query_y, outputs, known),
            fn_output_signature=tf.float32,
        )

    return name, tf.function(measure, autograph=False, reduce_retracing=True)

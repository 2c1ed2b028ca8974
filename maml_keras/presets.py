"""A paper's experiment as data: tasks, model, inner loop, schedule, evaluation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import keras

from maml_keras import data, recipes
from maml_keras.maml import MAML


class Families(NamedTuple):
    """Task families whose classes are disjoint."""

    train: data.TaskFamily
    validation: data.TaskFamily
    test: data.TaskFamily


@dataclass(frozen=True)
class Variation:
    """What an algorithm needs otherwise than the preset's own; None leaves it.

    Attributes:
        learning_rate: float, of the inner loop.
        steps: int, inner steps in training.
        options: more keywords of the recipe.
        model: keywords of the preset's model.
        optimizer: makes the outer optimizer for a number of iterations.
        scheduled: makes keywords of the recipe from the number of iterations and that
            of an epoch.
        training: turns the preset's training family into the algorithm's own.
        tasks: int, tasks of a meta-batch.
        evaluation_steps: int, adaptation steps on new tasks.
    """

    learning_rate: float | None = None
    steps: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    model: Mapping[str, Any] = field(default_factory=dict)
    optimizer: Callable[[int], keras.optimizers.Optimizer] | None = None
    scheduled: Callable[[int, int], Mapping[str, Any]] = lambda iterations, epoch: {}
    training: Callable[[Any], data.TaskFamily] = lambda family: family
    tasks: int | None = None
    evaluation_steps: int | None = None


@dataclass(frozen=True)
class Preset:
    """An experiment that `maml-keras train NAME` runs.

    Attributes:
        name: str.
        title: str, one line.
        protocol: str, what the figures depend on beside the evaluation's own text.
        published: str, the paper's figure and its source.
        model: makes a fresh model.
        loss: makes the inner loss.
        inner_rate: float, learning rate of the inner loop.
        inner_steps: int, inner steps in training.
        families: makes the task families; keywords `data_dir`, `download` and
            `verbose`, 0 for silence.
        tasks: int, tasks a meta-batch.
        iterations: int, meta-steps.
        learning_rate: float, of the outer Adam.
        epoch: int, meta-steps between two looks at validation tasks.
        evaluation_steps: int, adaptation steps on new tasks.
        cosine: bool, whether the outer rate falls to zero along a cosine.
        clip: float, bound of each entry of the meta-gradient; None for none.
        variations: what an algorithm needs otherwise, by its name.
    """

    name: str
    title: str
    protocol: str
    published: str
    model: Callable[..., keras.Model]
    loss: Callable[[], Any]
    inner_rate: float
    inner_steps: int
    families: Callable[..., Families]
    tasks: int
    iterations: int
    learning_rate: float
    epoch: int
    evaluation_steps: int
    cosine: bool = False
    clip: float | None = None
    variations: Mapping[str, Variation] = field(default_factory=dict)

    def build(self, algorithm: str = "maml", iterations: int | None = None) -> MAML:
        """The model of an algorithm, compiled and untrained.

        Args:
            algorithm: str, the name of a recipe.
            iterations: int, how long the outer schedule is; None for the preset's.

        Raises:
            ValueError: if there is no such algorithm.
        """
        recipe = recipes.get(algorithm)
        variation = self.variation(algorithm)
        rate, steps = variation.learning_rate, variation.steps
        total = self.iterations if iterations is None else iterations
        maml = recipe(
            self.model(**variation.model),
            self.loss(),
            self.inner_rate if rate is None else rate,
            steps=self.inner_steps if steps is None else steps,
            **variation.options,
            **variation.scheduled(total, self.epoch),
        )
        make = variation.optimizer or self.optimizer
        maml.compile(
            make(total),
            metrics=["accuracy"] if maml.inner.loss.is_sparse_categorical else None,
        )
        return maml

    def of(self, algorithm: str) -> Preset:
        """The same experiment with that algorithm's tasks a batch and steps in tests.

        >>> from maml_keras.experiments import get
        >>> get("omniglot_5w1s").of("imaml").evaluation_steps
        16
        """
        variation = self.variation(algorithm)
        tasks, steps = variation.tasks, variation.evaluation_steps
        return replace(
            self,
            tasks=self.tasks if tasks is None else tasks,
            evaluation_steps=self.evaluation_steps if steps is None else steps,
            published=self.published
            if algorithm == "maml" or self.published.startswith("none")
            else f"by MAML {self.published}",
        )

    def variation(self, algorithm: str) -> Variation:
        """What that algorithm needs otherwise."""
        return self.variations.get(algorithm, Variation())

    def episodes(self, algorithm: str, families: Families, seed: int) -> Any:
        """Endless batches of training tasks, as that algorithm wants them."""
        family = self.variation(algorithm).training(families.train)
        tasks = self.of(algorithm).tasks
        return data.episodes(family, batch_size=tasks, seed=1_000 + seed)

    def optimizer(self, iterations: int) -> keras.optimizers.Optimizer:
        """The outer optimizer, for a run of that length."""
        rate: Any = self.learning_rate
        if self.cosine:
            rate = keras.optimizers.schedules.CosineDecay(rate, iterations)
        return keras.optimizers.Adam(rate, clipvalue=self.clip)


def falling_sgd(iterations: int) -> keras.optimizers.Optimizer:
    """Reptile's outer step: from 1 to 0 in a straight line."""
    rate = keras.optimizers.schedules.PolynomialDecay(1.0, iterations, 0.0)
    return keras.optimizers.SGD(rate)


def falling_adam(
    iterations: int, *, learning_rate: float = 1e-3, clip: float | None = None
) -> keras.optimizers.Optimizer:
    """MAML++'s outer step: from 1e-3 to a hundredth of it along a cosine."""
    rate = keras.optimizers.schedules.CosineDecay(learning_rate, iterations, alpha=0.01)
    return keras.optimizers.Adam(rate, clipvalue=clip)


def annealed(iterations: int, epoch: int) -> dict[str, int]:
    """MAML++'s schedule for any length: 15 of 100 epochs on all steps.

    The released configurations have 10, the paper speaks of up to 15.
    """
    epochs = max(1, round(0.15 * iterations / epoch))
    return {"steps_per_epoch": epoch, "multi_step_epochs": epochs}

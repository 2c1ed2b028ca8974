"""A paper's experiment as data: tasks, model, inner loop, schedule, evaluation."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import keras

from maml_keras import data, recipes
from maml_keras.experiments.algorithm_settings import Variation
from maml_keras.outer.maml import MAML


class Families(NamedTuple):
    """Task families whose classes are disjoint."""

    train: data.TaskFamily
    validation: data.TaskFamily
    test: data.TaskFamily


@dataclass(frozen=True)
class Preset:
    """An experiment that `maml-keras train NAME` runs.

    Attributes:
        name: str.
        title: str, one line.
        protocol: str, what the figures depend on beside the evaluation's own text.
        adaptation: str, the inner loop of MAML in training.
        published: str, MAML's figure and its source.
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

    Raises:
        TypeError: if `model`, `loss` or `families` is no function.
    """

    name: str
    title: str
    protocol: str
    adaptation: str
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

    def __post_init__(self) -> None:
        for name in ("model", "loss", "families"):
            value = getattr(self, name)
            if not _makes(value):
                raise TypeError(
                    f"`{name}` must be a function without arguments of its own that "
                    "makes it, as each run begins with a new one: `model=functools."
                    'partial(mk.models.conv4, ways=5)`, `loss=lambda: "mse"`. '
                    f"Received: {name}={value!r}."
                )

    def build(self, algorithm: str = "maml", iterations: int | None = None) -> MAML:
        """The model of an algorithm, compiled and untrained.

        Args:
            algorithm: str, the name of a recipe.
            iterations: int, how long the outer schedule is; None for as many as the
                preset has for that algorithm.

        Raises:
            ValueError: if there is no such algorithm.
        """
        recipe = recipes.get(algorithm)
        variation = self.variation(algorithm)
        rate, steps = variation.learning_rate, variation.steps
        total = self.of(algorithm).iterations if iterations is None else iterations
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
        """The same experiment as that algorithm has it: tasks, length, steps, words.

        >>> from maml_keras.experiments import get
        >>> get("omniglot_5w1s").of("imaml").evaluation_steps
        16
        """
        variation = self.variation(algorithm)
        tasks, steps = variation.tasks, variation.evaluation_steps
        total = variation.iterations
        words = [self.protocol]
        if not self.protocol.endswith(variation.protocol):
            words.append(variation.protocol)
        return replace(
            self,
            protocol="; ".join(words),
            tasks=self.tasks if tasks is None else tasks,
            iterations=self.iterations if total is None else total,
            evaluation_steps=self.evaluation_steps if steps is None else steps,
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


def _makes(value: Any) -> bool:
    """True of what can be called without saying anything."""
    if not callable(value) or isinstance(value, (keras.Model, keras.losses.Loss)):
        return False
    try:
        inspect.signature(value).bind()
    except TypeError:
        return False
    except ValueError:
        return True  # Written in C: nobody knows.
    return True


def cross_entropy() -> keras.losses.Loss:
    """The mean over examples of logits against class numbers."""
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)

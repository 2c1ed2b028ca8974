"""A paper's experiment as data: tasks, model, inner loop, schedule, evaluation."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import keras

from maml_keras import data, recipes
from maml_keras.experiments import changes as changed_settings
from maml_keras.experiments.algorithm_settings import Variation
from maml_keras.outer.maml import MAML


class Families(NamedTuple):
    """Task families whose classes are disjoint.

    >>> from maml_keras.experiments import get
    >>> get("sinusoid").families().train.shots
    10
    """

    train: data.TaskFamily
    validation: data.TaskFamily
    test: data.TaskFamily


@dataclass(frozen=True)
class Preset:
    """An experiment that `maml-keras train NAME` runs.

    Attributes:
        name: str.
        title: str, one line.
        protocol: str, the conditions of the figures: data, sizes, loss and network.
        adaptation: str, the inner loop of MAML in training.
        published: str, MAML's published figure and its source.
        model: function that returns a fresh model.
        loss: function that returns the inner loss.
        inner_rate: float, learning rate of the inner loop.
        inner_steps: int, inner steps in training.
        families: function that returns the task families, with keywords `data_dir`,
            `download` and `verbose` (0 for silence).
        tasks: int, tasks in a meta-batch.
        iterations: int, meta-steps.
        learning_rate: float, of the outer Adam.
        epoch: int, meta-steps between two looks at validation tasks.
        evaluation_steps: int, adaptation steps on new tasks.
        cosine: bool, whether the outer rate falls to zero along a cosine.
        clip: float, bound of each entry of the meta-gradient; None for no bound.
        variations: settings that an algorithm changes, by the algorithm's name.

    Raises:
        TypeError: if `model`, `loss` or `families` is not a function that can be
            called without arguments.

    >>> from maml_keras.experiments import get
    >>> preset = get("sinusoid")
    >>> preset.inner_rate, preset.tasks
    (0.01, 25)
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
            if not _callable_without_arguments(value):
                raise TypeError(
                    f"`{name}` must be a function without required arguments, because "
                    "each run makes a new one. Examples: `model=functools."
                    'partial(mk.models.conv4, ways=5)`, `loss=lambda: "mse"`. '
                    f"Received: {name}={value!r}."
                )

    def build(self, algorithm: str = "maml", iterations: int | None = None) -> MAML:
        """The model of an algorithm, compiled and untrained.

        Args:
            algorithm: str, the name of a recipe.
            iterations: int, length of the outer schedule in meta-steps; None for the
                preset's length for that algorithm.

        Raises:
            ValueError: if no recipe has that name, or if the recipe does not suit the
                preset's loss.
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
            **{**variation.scheduled(total, self.epoch), **variation.options},
        )
        make = variation.optimizer or self.optimizer
        maml.compile(
            make(total),
            metrics=["accuracy"] if maml.inner.loss.is_sparse_categorical else None,
        )
        return maml

    def of(self, algorithm: str) -> Preset:
        """The preset with the algorithm's own tasks, length, steps and protocol.

        >>> from maml_keras.experiments import get
        >>> get("omniglot_5w1s").of("imaml").evaluation_steps
        16
        """
        variation = self.variation(algorithm)
        tasks, steps = variation.tasks, variation.evaluation_steps
        total = variation.iterations
        clauses = [self.protocol]
        if not self.protocol.endswith(variation.protocol):
            clauses.append(variation.protocol)
        return replace(
            self,
            protocol="; ".join(clauses),
            tasks=self.tasks if tasks is None else tasks,
            iterations=self.iterations if total is None else total,
            evaluation_steps=self.evaluation_steps if steps is None else steps,
        )

    def with_changes(self, algorithm: str = "maml", **changes: Any) -> Preset:
        """The preset with other settings for one algorithm.

        Args:
            algorithm: str, the name of a recipe.
            **changes: `inner_rate` and `steps`, of the inner loop in training;
                `outer_rate`, at which a schedule begins; `evaluation_steps`, on new
                tasks; and each argument of the recipe or of `MAML` that is a number,
                a text, or true or false, such as `batch_norm`.

        Raises:
            ValueError: if a name is unknown, or a value has another type.

        >>> from maml_keras.experiments import get
        >>> preset = get("sinusoid").with_changes("maml", inner_rate=0.1, steps=3)
        >>> preset.build("maml").inner.steps
        3
        """
        changes = changed_settings.checked(changes, algorithm)
        if not changes:
            return self
        variation = self.variation(algorithm)
        changed = changed_settings.applied(
            variation, changes, variation.optimizer or self.optimizer
        )
        return replace(self, variations={**self.variations, algorithm: changed})

    def variation(self, algorithm: str) -> Variation:
        """Settings that the algorithm changes in this preset."""
        found = self.variations.get(algorithm, Variation())
        if algorithm not in recipes.CLOSED_FORM:
            return found
        # The preset's rate and steps are those of gradient descent.
        rate, steps = found.learning_rate or 0.0, found.steps or 0
        return replace(found, learning_rate=rate, steps=steps)

    def episodes(self, algorithm: str, families: Families, seed: int) -> Any:
        """Endless batches of training tasks, with the algorithm's own sizes."""
        family = self.variation(algorithm).training(families.train)
        tasks = self.of(algorithm).tasks
        return data.episodes(family, batch_size=tasks, seed=1_000 + seed)

    def optimizer(self, iterations: int) -> keras.optimizers.Optimizer:
        """The outer optimizer for a run of `iterations` meta-steps."""
        rate: Any = self.learning_rate
        if self.cosine:
            rate = keras.optimizers.schedules.CosineDecay(rate, iterations)
        return keras.optimizers.Adam(rate, clipvalue=self.clip)


def _callable_without_arguments(value: Any) -> bool:
    """Whether `value()` is possible and `value` is not already a model or a loss."""
    if not callable(value) or isinstance(value, (keras.Model, keras.losses.Loss)):
        return False
    try:
        inspect.signature(value).bind()
    except TypeError:
        return False
    except ValueError:
        return True  # A function written in C has no signature to check.
    return True


def cross_entropy() -> keras.losses.Loss:
    """Cross-entropy of logits and class numbers, averaged over the examples.

    >>> float(cross_entropy()(np.array([1]), np.array([[0.0, 100.0]])))
    0.0
    """
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)

"""What an algorithm needs otherwise than a preset's own settings."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import keras

from maml_keras import data
from maml_keras.inner.selectors import all_but_batch_norm


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
        protocol: str, what the preset's protocol says otherwise of it.
        training: turns the preset's training family into the algorithm's own.
        tasks: int, tasks of a meta-batch.
        iterations: int, meta-steps.
        evaluation_steps: int, adaptation steps on new tasks.
    """

    learning_rate: float | None = None
    steps: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    model: Mapping[str, Any] = field(default_factory=dict)
    optimizer: Callable[[int], keras.optimizers.Optimizer] | None = None
    scheduled: Callable[[int, int], Mapping[str, Any]] = lambda iterations, epoch: {}
    protocol: str = ""
    training: Callable[[Any], data.TaskFamily] = lambda family: family
    tasks: int | None = None
    iterations: int | None = None
    evaluation_steps: int | None = None


def falling_sgd(iterations: int) -> keras.optimizers.Optimizer:
    """Reptile's outer step: from 1 to 0 in a straight line."""
    rate = keras.optimizers.schedules.PolynomialDecay(1.0, iterations, 0.0)
    return keras.optimizers.SGD(rate)


def falling_adam(
    iterations: int, *, learning_rate: float = 1e-3, clip: float | None = None
) -> keras.optimizers.Optimizer:
    """An outer rate that falls to a hundredth along a cosine: MAML++ on Omniglot."""
    rate = keras.optimizers.schedules.CosineDecay(learning_rate, iterations, alpha=0.01)
    return keras.optimizers.Adam(rate, clipvalue=clip)


def steady_adam(
    iterations: int, *, learning_rate: float = 1e-3, clip: float | None = None
) -> keras.optimizers.Optimizer:
    """An outer rate that stays: the released MAML++ on mini-ImageNet."""
    return keras.optimizers.Adam(learning_rate, clipvalue=clip)


def annealed(iterations: int, epoch: int) -> dict[str, int]:
    """MAML++'s schedule for any length: 15 of 100 epochs on all steps.

    The released configurations have 10 on Omniglot and 15 on mini-ImageNet.
    """
    epochs = max(1, round(0.15 * iterations / epoch))
    return {"steps_per_epoch": epoch, "multi_step_epochs": epochs}


def of_images(
    *,
    layer_rate: float | None = None,
    reptile_shots: int,
    reptile: Variation | None = None,
    maml_plus_plus: Variation | None = None,
    cavia: Variation | None = None,
    code: bool = False,
) -> dict[str, Variation]:
    """What the algorithms need with images.

    Args:
        layer_rate: where MAML++'s rates begin.
        reptile_shots: images a class that Reptile trains with.
        reptile: what else Reptile's paper has otherwise.
        maml_plus_plus: what else MAML++'s released configuration has otherwise.
        cavia: what CAVIA's program has otherwise; None for the preset's own steps.
        code: whether scale and offset of batch norm stay out of the inner loop.
    """
    found = {
        "cavia": replace(
            cavia or Variation(), learning_rate=1.0, model={"context": 100}
        ),
        "imaml": Variation(steps=16, learning_rate=0.1, evaluation_steps=16),
        "maml_plus_plus": replace(
            maml_plus_plus or Variation(),
            learning_rate=layer_rate,
            steps=5,
            scheduled=annealed,
            evaluation_steps=5,
        ),
        "reptile": replace(
            reptile or Variation(learning_rate=1e-3, steps=5),
            optimizer=falling_sgd,
            protocol=f"Reptile trains {reptile_shots}-shot with one query a class",
            training=functools.partial(_with_shots, reptile_shots),
            evaluation_steps=50,
        ),
    }
    if code:
        adapt = {"adapt": all_but_batch_norm()}
        found |= {name: Variation(options=adapt) for name in ("maml", "fomaml")}
    return found


def with_shots_of_tests(shots: int, family: data.NWayKShot) -> data.NWayKShot:
    """The family with as many shots as tests have, and as many queries as before."""
    return family.resized(shots=shots, queries=family.queries)


def _with_shots(shots: int, family: data.NWayKShot) -> data.NWayKShot:
    # Reptile learns from support sets alone: the query is there for the loss shown.
    return family.resized(shots=shots, queries=1)

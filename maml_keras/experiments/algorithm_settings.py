"""Settings that an algorithm changes in a preset."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import keras

from maml_keras import data
from maml_keras.inner.selectors import all_but_batch_norm


@dataclass(frozen=True)
class Variation:
    """Settings that an algorithm changes in a preset; None keeps the preset's value.

    Attributes:
        learning_rate: float, of the inner loop.
        steps: int, inner steps in training.
        options: further keywords for the recipe.
        model: keywords for the preset's `model` function.
        optimizer: `f(iterations)` returns the outer optimizer.
        scheduled: `f(iterations, epoch)` returns keywords for the recipe that depend
            on the length of the run and of an epoch, both in meta-steps.
        protocol: str, a clause about these changes for the preset's protocol.
        training: `f(family)` returns the algorithm's training family, made from the
            preset's.
        tasks: int, tasks in a meta-batch.
        iterations: int, meta-steps.
        evaluation_steps: int, adaptation steps on new tasks.
        changes: settings that `Preset.with_changes` changed, by name.
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
    changes: Mapping[str, Any] = field(default_factory=dict)


def falling_sgd(iterations: int) -> keras.optimizers.Optimizer:
    """SGD whose rate falls linearly from 1 to 0: Reptile's outer step."""
    rate = keras.optimizers.schedules.PolynomialDecay(1.0, iterations, 0.0)
    return keras.optimizers.SGD(rate)


def falling_adam(
    iterations: int, *, learning_rate: float = 1e-3, clip: float | None = None
) -> keras.optimizers.Optimizer:
    """Adam whose rate falls along a cosine to a hundredth: MAML++ on Omniglot."""
    rate = keras.optimizers.schedules.CosineDecay(learning_rate, iterations, alpha=0.01)
    return keras.optimizers.Adam(rate, clipvalue=clip)


def steady_adam(
    iterations: int, *, learning_rate: float = 1e-3, clip: float | None = None
) -> keras.optimizers.Optimizer:
    """Adam with a constant rate: the released MAML++ on mini-ImageNet."""
    return keras.optimizers.Adam(learning_rate, clipvalue=clip)


def annealed(iterations: int, epoch: int) -> dict[str, int]:
    """MAML++'s schedule: 15% of the epochs weigh the losses of all inner steps.

    Of 100 epochs, the released configurations use 10 on Omniglot and 15 on
    mini-ImageNet.
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
    """Settings that each algorithm changes in a preset of images.

    Args:
        layer_rate: float, initial value of MAML++'s learned inner rates; None for the
            preset's inner rate.
        reptile_shots: int, support images a class in Reptile's training.
        reptile: further changes, from Reptile's paper.
        maml_plus_plus: further changes, from MAML++'s released configuration.
        cavia: further changes, from CAVIA's program.
        code: bool, whether MAML and first-order MAML leave scale and offset of batch
            norm out of the inner loop.

    Returns:
        The changes by the algorithm's name, for `Preset.variations`.

    >>> of_images(reptile_shots=10)["reptile"].protocol
    'Reptile trains 10-shot with one query a class'
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


def with_options(
    variations: Mapping[str, Variation], names: Iterable[str], **options: Any
) -> dict[str, Variation]:
    """The variations of the named recipes, with further keywords for the recipes.

    >>> found = with_options({}, ["maml"], batch_norm="support")
    >>> found["maml"].options
    {'batch_norm': 'support'}
    """
    found = {name: variations.get(name, Variation()) for name in names}
    return {
        name: replace(variation, options={**variation.options, **options})
        for name, variation in found.items()
    }


def with_shots_of_tests(shots: int, family: data.NWayKShot) -> data.NWayKShot:
    """The family with the shots of the test tasks and unchanged queries."""
    return family.resized(shots=shots, queries=family.queries)


def _with_shots(shots: int, family: data.NWayKShot) -> data.NWayKShot:
    # Reptile learns from support sets alone. The one query only gives a loss to log.
    return family.resized(shots=shots, queries=1)

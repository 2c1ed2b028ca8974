"""A paper's experiment as data: tasks, model, inner loop, schedule, evaluation."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import keras

from maml_keras import data
from maml_keras.inner import InnerLoop
from maml_keras.models import conv4, mlp
from maml_keras.rules import SGD


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
        published: str, the paper's figure and its source.
        model: makes a fresh model.
        inner: makes the inner loop.
        families: makes the task families; keywords `data_dir` and `download`.
        tasks: int, tasks a meta-batch.
        iterations: int, meta-steps.
        learning_rate: float, of the outer Adam.
        cosine: bool, whether the outer rate falls to zero along a cosine.
        epoch: int, meta-steps between two looks at validation tasks.
        steps_per_execution: int, meta-steps a Python call.
        evaluation_steps: int, adaptation steps on new tasks.
        jit_compile: bool, XLA: faster for small dense networks on CPU.
    """

    name: str
    title: str
    protocol: str
    published: str
    model: Callable[[], keras.Model]
    inner: Callable[[], InnerLoop]
    families: Callable[..., Families]
    tasks: int
    iterations: int
    learning_rate: float
    epoch: int
    evaluation_steps: int
    cosine: bool = False
    steps_per_execution: int = 1
    jit_compile: bool = False

    def optimizer(self, iterations: int) -> keras.optimizers.Optimizer:
        """The outer optimizer, for a run of that length."""
        rate: Any = self.learning_rate
        if self.cosine:
            rate = keras.optimizers.schedules.CosineDecay(rate, iterations)
        return keras.optimizers.Adam(rate)


def get(name: str) -> Preset:
    """The preset of that name.

    Raises:
        ValueError: if there is none, with the nearest names.

    >>> get("sinusoid").tasks
    25
    """
    if name not in PRESETS:
        near = difflib.get_close_matches(name, PRESETS, n=1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        raise ValueError(
            f"`preset` must be one of {', '.join(PRESETS)}. Received: {name!r}.{hint}"
        )
    return PRESETS[name]


def _sinusoids(**_: Any) -> Families:
    # Every task is drawn anew from a continuum: the families differ by seed alone.
    family = data.Sinusoid(shots=10, queries=10)
    return Families(family, family, family)


def _cross_entropy() -> keras.losses.Loss:
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def _omniglot(*, data_dir: Any = None, download: bool = False) -> Families:
    pool = data.omniglot(data_dir=data_dir, download=download)
    parts = data.split_classes(pool, train=1100, validation=100, test=423, seed=0)
    return _characters(*parts)


# The two smallest alphabets are held out for the test and the next for validation, so
# that most characters are left to learn from. Chosen by size, before any training.
TEST_ALPHABETS = ("Early_Aramaic", "Tagalog")
VALIDATION_ALPHABETS = ("Greek",)


def _omniglot_small(*, data_dir: Any = None, download: bool = False) -> Families:
    pool = data.omniglot(split="small1+small2", data_dir=data_dir, download=download)
    parts = data.split_classes(
        pool,
        train=None,
        validation=VALIDATION_ALPHABETS,
        test=TEST_ALPHABETS,
        by="group",
    )
    return _characters(*parts)


def _characters(train: data.Pool, validation: data.Pool, test: data.Pool) -> Families:
    def family(pool: data.Pool, *, queries: int, rotate: bool) -> data.NWayKShot:
        return data.NWayKShot(
            pool, ways=5, shots=1, queries=queries, rotate_classes=rotate
        )

    return Families(
        family(train, queries=5, rotate=True),
        family(validation, queries=15, rotate=False),
        family(test, queries=15, rotate=False),
    )


PRESETS = {
    preset.name: preset
    for preset in (
        Preset(
            name="sinusoid",
            title="10-shot regression of random sinusoids",
            protocol="A ~ U[0.1, 5], phase ~ U[0, pi], x ~ U[-5, 5], no noise; 10 "
            "support and 10 query points; MSE; MLP 1-40-40-1; inner SGD 0.01, 1 step "
            "in training",
            published="a curve only (Finn et al. 2017, arXiv 1703.03400, figure 3)",
            model=mlp,
            inner=lambda: InnerLoop("mse", SGD(0.01), steps=1),
            families=_sinusoids,
            tasks=25,
            iterations=70_000,
            learning_rate=1e-3,
            epoch=1_000,
            evaluation_steps=10,
            steps_per_execution=100,
            jit_compile=True,
        ),
        Preset(
            name="omniglot",
            title="Omniglot 5-way 1-shot, all 1,623 characters",
            protocol="1,100 / 100 / 423 characters to train / validate / test; each "
            "class of a training episode rotated by a multiple of 90 degrees; mean "
            "cross-entropy; conv-4, 64 filters; inner SGD 0.4, 1 step in training",
            published="98.7 ± 0.4% (Finn et al. 2017, arXiv 1703.03400, table 1)",
            model=conv4,
            inner=lambda: InnerLoop(_cross_entropy(), SGD(0.4), steps=1),
            families=_omniglot,
            tasks=32,
            iterations=60_000,
            learning_rate=1e-3,
            epoch=500,
            evaluation_steps=3,
        ),
        Preset(
            name="omniglot_small",
            title="Omniglot 5-way 1-shot on 242 characters, in 20 minutes",
            protocol="the splits small1 and small2; test alphabets "
            f"{' and '.join(TEST_ALPHABETS)}, validation {VALIDATION_ALPHABETS[0]}, "
            "training the other five, each class of a training episode rotated by a "
            "multiple of 90 degrees; 5 queries a class in training; mean "
            "cross-entropy; conv-4, 64 filters; inner SGD 0.4, 1 step in training",
            published="none for this split",
            model=conv4,
            inner=lambda: InnerLoop(_cross_entropy(), SGD(0.4), steps=1),
            families=_omniglot_small,
            tasks=16,
            iterations=4_600,
            learning_rate=3e-3,
            epoch=200,
            evaluation_steps=3,
            cosine=True,
        ),
    )
}

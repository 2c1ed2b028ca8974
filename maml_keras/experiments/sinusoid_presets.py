"""The presets of regression on random sinusoids."""

from __future__ import annotations

import functools
from typing import Any

from maml_keras import data
from maml_keras.experiments.algorithm_settings import (
    Variation,
    annealed,
    falling_adam,
    falling_sgd,
)
from maml_keras.experiments.preset import Families, Preset
from maml_keras.models.networks import mlp


def sinusoid(shots: int, *, code: bool = False) -> Preset:
    """Regression with that many support points in tests."""
    rate = 0.001 if code else 0.01
    # The program cuts a task in halves: as many queries as support points.
    queries = shots if code else 10
    return Preset(
        name="sinusoid"
        + (f"_{shots}" if shots != 10 else "")
        + ("_code" if code else ""),
        title=f"{shots}-shot regression of random sinusoids"
        + (", as the paper's code has it" if code else ""),
        protocol="A ~ U[0.1, 5], phase ~ U[0, pi], x ~ U[-5, 5], no noise; trained "
        f"with 10 support and 10 query points, tested with {shots} and {queries}; "
        "inner and outer loss the mean of squared errors; MLP 1-40-40-1",
        adaptation=f"inner SGD {rate:g}, 1 step in training",
        published="a curve only, of MAML (Finn et al. 2017, arXiv 1703.03400, "
        "figure 3)",
        model=mlp,
        loss=lambda: "mse",
        inner_rate=rate,
        inner_steps=1,
        families=functools.partial(_sinusoids, shots, queries),
        tasks=25,
        iterations=70_000,
        learning_rate=1e-3,
        epoch=1_000,
        evaluation_steps=10,
        variations={
            "cavia": Variation(learning_rate=1.0, model={"context": 5}),
            # The support loss bends up by 50 and more, and down by 2: the recipe's
            # lambda of 2 leaves it a minimum, and the rate comes to it. Training
            # sharpens that loss without end, which the meta-gradient does not feel, so
            # the outer rate is small and ends near zero.
            "imaml": Variation(
                steps=32,
                learning_rate=0.01,
                options={"clip_norm": 10.0},
                optimizer=functools.partial(falling_adam, learning_rate=3e-4),
                evaluation_steps=32,
            ),
            "maml_plus_plus": Variation(scheduled=annealed),
            "reptile": Variation(
                learning_rate=0.005,
                steps=10,
                optimizer=falling_sgd,
                protocol="Reptile trains with 19 support points and one query point",
                training=lambda family: data.Sinusoid(
                    shots=family.shots + family.queries - 1, queries=1
                ),
            ),
        },
    )


def _sinusoids(shots: int, queries: int, **_: Any) -> Families:
    # Every task is drawn anew from a continuum: the families differ by seed alone.
    # The paper trains with ten examples, whatever the test has.
    train = data.Sinusoid(shots=10, queries=10)
    return Families(train, train, data.Sinusoid(shots=shots, queries=queries))

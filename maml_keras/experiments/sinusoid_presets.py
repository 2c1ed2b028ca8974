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
    """Regression of sinusoids, tested with `shots` support points."""
    rate = 0.001 if code else 0.01
    # The paper's code splits a task in half: as many queries as support points.
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
            # The curvature of the support loss reaches from -2 to 50 and more. The
            # recipe's lambda of 2 gives this loss a minimum, and SGD at this rate
            # reaches it. Training keeps raising the curvature, because the
            # meta-gradient does not limit it, so the outer rate is small and ends
            # near zero.
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
    # Every task is a new draw of amplitude and phase, so training and validation may
    # share one family and differ by the seed alone. The paper always trains with ten
    # support points.
    train = data.Sinusoid(shots=10, queries=10)
    return Families(train, train, data.Sinusoid(shots=shots, queries=queries))

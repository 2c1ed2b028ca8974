"""The presets of mini-ImageNet and CIFAR-FS."""

from __future__ import annotations

import functools
from typing import Any

from maml_keras import data
from maml_keras.experiments import algorithm_settings
from maml_keras.experiments.algorithm_settings import Variation, steady_adam
from maml_keras.experiments.preset import Families, Preset, cross_entropy
from maml_keras.models.networks import conv4

SETS: dict[str, tuple[str, Any, int, dict[int, str]]] = {
    "mini_imagenet": (
        "mini-ImageNet",
        data.mini_imagenet,
        84,
        {1: "48.70 ± 1.84%", 5: "63.11 ± 0.92%"},
    ),
    "cifar_fs": (
        "CIFAR-FS",
        data.cifar_fs,
        32,
        {1: "58.9 ± 1.9%", 5: "71.5 ± 1.0%"},
    ),
}
_TRAIN_QUERIES = 15
_SOURCES = {
    "mini_imagenet": "Finn et al. 2017, arXiv 1703.03400, table 1",
    "cifar_fs": "Bertinetto et al. 2019, arXiv 1805.08136",
}


def images(key: str, shots: int, *, code: bool) -> Preset:
    """5-way tasks of a data set in `SETS`, as in the paper or as in its code."""
    title, load, side, published = SETS[key]
    # The paper's code uses four tasks in every meta-batch.
    tasks = 4 if shots == 1 or code else 2
    return Preset(
        name=f"{key}_5w{shots}s" + ("_code" if code else ""),
        title=f"{title} 5-way {shots}-shot"
        + (", as the paper's code has it" if code else ""),
        protocol=f"{side}x{side} images; {shots} support images a class, "
        f"{_TRAIN_QUERIES} queries a class in training and {shots} in tests; "
        + (
            "cross-entropy summed over classes, which is 5 times the mean; "
            if code
            else "mean cross-entropy; "
        )
        + "conv-4 with max-pooling, 32 filters; meta-gradient clipped to ±10"
        + (", that of a loss summed over the queries and divided by shots" * code),
        adaptation="inner SGD 0.01, 5 steps in training",
        published=f"{published[shots]} by MAML ({_SOURCES[key]})",
        model=functools.partial(
            conv4, shape=(side, side, 3), filters=32, max_pool=True
        ),
        loss=cross_entropy,
        inner_rate=0.05 if code else 0.01,
        inner_steps=5,
        families=functools.partial(_images, load, shots=shots),
        tasks=tasks,
        iterations=60_000,
        learning_rate=1e-3,
        epoch=500,
        evaluation_steps=10,
        # The code clips the gradient of an outer loss that is `5 * queries / shots`
        # times our mean, so the bound for our gradient is divided by that factor.
        clip=10.0 * shots / (5 * _TRAIN_QUERIES) if code else 10.0,
        variations=algorithm_settings.of_images(
            # MAML++'s own rate, which does not depend on the loss in MAML's code.
            layer_rate=0.01,
            reptile_shots=15,
            reptile=Variation(learning_rate=1e-3, steps=8, tasks=5, iterations=100_000),
            maml_plus_plus=Variation(
                tasks=2,
                iterations=50_000,
                model={"filters": 48},
                optimizer=functools.partial(steady_adam, clip=10.0),
                protocol="MAML++ has 48 filters and a constant outer rate",
            ),
            cavia=Variation(
                steps=2,
                evaluation_steps=2,
                tasks=16,
                protocol="CAVIA takes 2 steps and 16 tasks",
            ),
            code=code,
        ),
    )


def _images(
    load: Any,
    *,
    shots: int,
    data_dir: Any = None,
    download: bool = False,
    verbose: str | int = 0,
) -> Families:
    train, *held_out = load(data_dir=data_dir, download=download, verbose=verbose)
    family = functools.partial(data.NWayKShot, ways=5, shots=shots)
    # Training uses Ravi and Larochelle's number of queries. The paper's code tests
    # with as many queries as shots.
    return Families(
        family(train, queries=_TRAIN_QUERIES),
        *(family(pool, queries=shots) for pool in held_out),
    )

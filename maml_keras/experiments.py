"""The presets: the papers' experiments, and smaller ones for real data at hand."""

from __future__ import annotations

import difflib
import functools
from dataclasses import replace
from typing import Any

import keras

from maml_keras import data
from maml_keras.models import conv4, mlp
from maml_keras.presets import (
    Families,
    Preset,
    Variation,
    annealed,
    falling_adam,
    falling_sgd,
)
from maml_keras.selectors import all_but_batch_norm

# The two smallest alphabets are held out for the test and the next for validation, so
# that most characters are left to learn from. Chosen by size, before any training.
TEST_ALPHABETS = ("Early_Aramaic", "Tagalog")
VALIDATION_ALPHABETS = ("Greek",)


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


def _cross_entropy() -> keras.losses.Loss:
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def _sinusoids(shots: int, **_: Any) -> Families:
    # Every task is drawn anew from a continuum: the families differ by seed alone.
    # The paper trains with ten examples, whatever the test has.
    train, test = (data.Sinusoid(shots=k, queries=10) for k in (10, shots))
    return Families(train, train, test)


def _characters(
    pools: tuple[data.Pool, data.Pool, data.Pool],
    *,
    ways: int,
    train_shots: int,
    shots: int,
    train_queries: int,
    queries: int,
    rotate_tests: bool,
) -> Families:
    family = functools.partial(data.NWayKShot, ways=ways)
    return Families(
        family(pools[0], shots=train_shots, queries=train_queries, rotate_classes=True),
        *(
            family(pool, shots=shots, queries=queries, rotate_classes=rotate_tests)
            for pool in pools[1:]
        ),
    )


def _omniglot(
    *,
    ways: int,
    shots: int,
    data_dir: Any = None,
    download: bool = False,
    verbose: str | int = 0,
) -> Families:
    pool = data.omniglot(data_dir=data_dir, download=download, verbose=verbose)
    parts = data.split_classes(pool, train=1100, validation=100, test=423, seed=0)
    return _characters(
        parts,
        ways=ways,
        train_shots=1,
        shots=shots,
        train_queries=1,
        queries=shots,
        rotate_tests=True,
    )


def _omniglot_small(
    *,
    ways: int,
    data_dir: Any = None,
    download: bool = False,
    verbose: str | int = 0,
) -> Families:
    pool = data.omniglot(
        split="small1+small2", data_dir=data_dir, download=download, verbose=verbose
    )
    parts = data.split_classes(
        pool,
        train=None,
        validation=VALIDATION_ALPHABETS,
        test=TEST_ALPHABETS,
        by="group",
    )
    return _characters(
        parts,
        ways=ways,
        train_shots=1,
        shots=1,
        train_queries=5,
        queries=15,
        rotate_tests=False,
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
    # Ravi and Larochelle's number in training; the paper's code tests with as many
    # queries as shots.
    return Families(
        family(train, queries=_TRAIN_QUERIES),
        *(family(pool, queries=shots) for pool in held_out),
    )


def _sinusoid_preset(shots: int, *, code: bool = False) -> Preset:
    rate = 0.001 if code else 0.01
    return Preset(
        name="sinusoid"
        + (f"_{shots}" if shots != 10 else "")
        + ("_code" if code else ""),
        title=f"{shots}-shot regression of random sinusoids"
        + (", as the paper's code has it" if code else ""),
        protocol="A ~ U[0.1, 5], phase ~ U[0, pi], x ~ U[-5, 5], no noise; trained "
        f"with 10, tested with {shots} support points, 10 query points; MSE; MLP "
        f"1-40-40-1; inner SGD {rate:g}, 1 step in training",
        published="a curve only (Finn et al. 2017, arXiv 1703.03400, figure 3)",
        model=mlp,
        loss=lambda: "mse",
        inner_rate=rate,
        inner_steps=1,
        families=functools.partial(_sinusoids, shots),
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
                training=lambda family: data.Sinusoid(
                    shots=family.shots + family.queries - 1, queries=1
                ),
            ),
        },
    )


# The rates are those of the paper, with a mean loss. The paper's code sums the loss
# over classes: the same step has `ways` times the rate.
_OMNIGLOT = {
    (5, 1): "98.7 ± 0.4%",
    (5, 5): "99.9 ± 0.1%",
    (20, 1): "95.8 ± 0.3%",
    (20, 5): "98.9 ± 0.2%",
}


def _image_variations(
    *,
    layer_rate: float | None = None,
    reptile_shots: int,
    published: Variation | None = None,
    code: bool = False,
) -> dict[str, Variation]:
    """What the algorithms need with images.

    Args:
        layer_rate: where MAML++'s rates begin.
        reptile_shots: images a class that Reptile trains with.
        published: what else MAML++'s paper has otherwise.
        code: whether scale and offset of batch norm stay out of the inner loop.
    """
    found = {
        "cavia": Variation(learning_rate=1.0, model={"context": 100}),
        "imaml": Variation(steps=16, learning_rate=0.1, evaluation_steps=16),
        "maml_plus_plus": replace(
            published or Variation(),
            learning_rate=layer_rate,
            steps=5,
            scheduled=annealed,
            evaluation_steps=5,
        ),
        "reptile": Variation(
            learning_rate=1e-3,
            steps=5,
            optimizer=falling_sgd,
            training=functools.partial(_with_shots, reptile_shots),
            evaluation_steps=50,
        ),
    }
    if code:
        adapt = {"adapt": all_but_batch_norm()}
        found |= {name: Variation(options=adapt) for name in ("maml", "fomaml")}
    return found


def _with_shots(shots: int, family: data.NWayKShot) -> data.NWayKShot:
    # Reptile learns from support sets alone: the query is there for the loss shown.
    return family.resized(shots=shots, queries=1)


def _omniglot_preset(ways: int, shots: int, *, code: bool) -> Preset:
    rate, steps = (0.4, 1) if ways == 5 else (0.1, 5)
    tests = 3 if ways == 5 else 5
    return Preset(
        name=f"omniglot_{ways}w{shots}s" + ("_code" if code else ""),
        title=f"Omniglot {ways}-way {shots}-shot, all 1,623 characters"
        + (", as the paper's code has it" if code else ""),
        protocol="1,100 / 100 / 423 characters to train / validate / test; each class "
        "of an episode rotated by a multiple of 90 degrees, in tests too; trained "
        f"1-shot with 1 query a class, tested with {shots} queries a class; "
        + (
            f"cross-entropy summed over classes, which is {ways} times the mean; "
            if code
            else "mean cross-entropy; "
        )
        + f"conv-4, 64 filters; inner SGD {rate:g}, {steps} step(s) in training",
        published=f"{_OMNIGLOT[ways, shots]} (Finn et al. 2017, arXiv 1703.03400, "
        "table 1)",
        model=functools.partial(conv4, ways=ways),
        loss=_cross_entropy,
        inner_rate=rate * ways if code else rate,
        inner_steps=steps,
        families=functools.partial(_omniglot, ways=ways, shots=shots),
        tasks=32 if ways == 5 else 16,
        iterations=40_000 if code else 60_000,
        learning_rate=1e-3,
        epoch=500,
        evaluation_steps=10 if code else tests,
        variations=_image_variations(
            layer_rate=0.1,
            reptile_shots=10,
            published=Variation(tasks=8, optimizer=falling_adam),
            code=code,
        ),
    )


def _small_preset(ways: int) -> Preset:
    return Preset(
        name="omniglot_small" if ways == 5 else f"omniglot_small_{ways}w",
        title=f"Omniglot {ways}-way 1-shot on 242 characters"
        + (", in 20 minutes" if ways == 5 else ""),
        protocol="the splits small1 and small2; test alphabets "
        f"{' and '.join(TEST_ALPHABETS)}, validation {VALIDATION_ALPHABETS[0]}, "
        "training the other five, each class of a training episode rotated by a "
        "multiple of 90 degrees; 5 queries a class in training; mean "
        "cross-entropy; conv-4, 64 filters; inner SGD 0.4, 1 step in training",
        published="none for this split",
        model=functools.partial(conv4, ways=ways),
        loss=_cross_entropy,
        inner_rate=0.4,
        inner_steps=1,
        families=functools.partial(_omniglot_small, ways=ways),
        tasks=16 if ways == 5 else 4,
        iterations=4_600,
        learning_rate=3e-3,
        epoch=200,
        evaluation_steps=3,
        cosine=True,
        # All that the others have: a support image and five queries a class.
        variations=_image_variations(layer_rate=0.1, reptile_shots=5),
    )


_IMAGES: dict[str, tuple[str, Any, int, dict[int, str]]] = {
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
    "cifar_fs": "Bertinetto et al. 2019, arXiv 1805.08136, table 2",
}


def _image_preset(key: str, shots: int, *, code: bool) -> Preset:
    title, load, side, published = _IMAGES[key]
    # The paper's code has four tasks in every batch.
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
        + "conv-4 with max-pooling, 32 filters; inner SGD 0.01, 5 steps in training; "
        "meta-gradient clipped to ±10"
        + (", that of a loss summed over the queries and divided by shots" * code),
        published=f"{published[shots]} ({_SOURCES[key]})",
        model=functools.partial(
            conv4, shape=(side, side, 3), filters=32, max_pool=True
        ),
        loss=_cross_entropy,
        inner_rate=0.05 if code else 0.01,
        inner_steps=5,
        families=functools.partial(_images, load, shots=shots),
        tasks=tasks,
        iterations=60_000,
        learning_rate=1e-3,
        epoch=500,
        evaluation_steps=10,
        # The code's outer loss is this many times our mean, and so is what it clips.
        clip=10.0 * shots / (5 * _TRAIN_QUERIES) if code else 10.0,
        variations=_image_variations(
            reptile_shots=15,
            published=Variation(
                tasks=2, optimizer=functools.partial(falling_adam, clip=10.0)
            ),
            code=code,
        ),
    )


PRESETS = {
    preset.name: preset
    for preset in (
        *(
            _sinusoid_preset(shots, code=code)
            for shots in (10, 5, 20)
            for code in (False, True)
        ),
        *(_small_preset(ways) for ways in (5, 20)),
        *(
            _omniglot_preset(ways, shots, code=code)
            for ways, shots in _OMNIGLOT
            for code in (False, True)
        ),
        *(
            _image_preset(key, shots, code=code)
            for key in _IMAGES
            for shots in (1, 5)
            for code in (False, True)
        ),
    )
}

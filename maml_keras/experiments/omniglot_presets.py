"""The presets of Omniglot: the paper's, and small ones of 242 characters."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import numpy as np

from maml_keras import data, recipes
from maml_keras.experiments import algorithm_settings
from maml_keras.experiments.algorithm_settings import Variation, falling_adam
from maml_keras.experiments.preset import Families, Preset, cross_entropy
from maml_keras.models.networks import conv4

# The two smallest alphabets are the test and the next smallest is the validation, so
# that most characters remain for training. They were chosen by size alone, before any
# training.
TEST_ALPHABETS = ("Early_Aramaic", "Tagalog")
VALIDATION_ALPHABETS = ("Greek",)

# The split of the presets of all characters, and their rotations.
SPLIT = (
    "1,100 / 100 / 423 characters to train / validate / test; each class of an episode "
    "rotated by a multiple of 90 degrees, in tests too"
)

# Accuracies in MAML's paper, by ways and shots.
PUBLISHED = {
    (5, 1): "98.7 ± 0.4%",
    (5, 5): "99.9 ± 0.1%",
    (20, 1): "95.8 ± 0.3%",
    (20, 5): "98.9 ± 0.2%",
}


def omniglot(ways: int, shots: int, *, code: bool) -> Preset:
    """All 1,623 characters, as in the paper or as in its code."""
    # The paper's rates hold for a mean loss. Its code sums the loss over classes, so
    # the same step needs `ways` times the rate.
    rate, steps = (0.4, 1) if ways == 5 else (0.1, 5)
    tests = 3 if ways == 5 else 5
    return Preset(
        name=f"omniglot_{ways}w{shots}s" + ("_code" if code else ""),
        title=f"Omniglot {ways}-way {shots}-shot, all 1,623 characters"
        + (", as the paper's code has it" if code else ""),
        protocol=f"{SPLIT}; trained "
        f"1-shot with 1 query a class, tested with {shots} queries a class; "
        + (
            f"cross-entropy summed over classes, which is {ways} times the mean; "
            if code
            else "mean cross-entropy; "
        )
        + "conv-4, 64 filters",
        adaptation=f"inner SGD {rate:g}, {steps} step(s) in training",
        published=f"{PUBLISHED[ways, shots]} by MAML (Finn et al. 2017, "
        "arXiv 1703.03400, table 1)",
        model=functools.partial(conv4, ways=ways),
        loss=cross_entropy,
        inner_rate=rate * ways if code else rate,
        inner_steps=steps,
        families=functools.partial(_all_characters, ways=ways, shots=shots),
        tasks=32 if ways == 5 else 16,
        iterations=40_000 if code else 60_000,
        learning_rate=1e-3,
        epoch=500,
        evaluation_steps=10 if code else tests,
        variations=algorithm_settings.of_images(
            layer_rate=0.1,
            reptile_shots=10,
            # Reptile's released commands for 20 ways halve the rate and double the
            # steps.
            reptile=Variation(
                learning_rate=1e-3 if ways == 5 else 5e-4,
                steps=5 if ways == 5 else 10,
                tasks=5,
                iterations=100_000 if ways == 5 else 200_000,
            ),
            maml_plus_plus=Variation(
                tasks=8,
                iterations=50_000,
                optimizer=falling_adam,
                # MAML's paper always trains with one shot; MAML++ trains with the
                # shots of the tests.
                training=functools.partial(
                    algorithm_settings.with_shots_of_tests, shots
                ),
                protocol=f"MAML++ trains {shots}-shot" if shots > 1 else "",
            ),
            code=code,
        ),
    )


def omniglot_short(ways: int) -> Preset:
    """The 1-shot tasks of `omniglot`, in an hour or two instead of many."""
    preset = omniglot(ways, 1, code=False)
    preset = dataclasses.replace(
        preset,
        name=f"omniglot_{ways}w1s_short",
        title=f"{preset.title}, in a shorter training",
        protocol=f"{preset.protocol}; the outer rate falls to zero along a cosine",
        iterations=10_000,
        learning_rate=2e-3,
        cosine=True,
    )
    if ways == 5:
        return preset
    # In trials on validation tasks, five inner steps learned no more in a meta-step,
    # and took at least four times as long.
    return dataclasses.replace(
        preset,
        protocol=f"{preset.protocol}; one inner step in place of the paper's five, at "
        "twenty times the paper's rate, as its program has it",
        adaptation="inner SGD 2, 1 step(s) in training",
        inner_rate=2.0,
        inner_steps=1,
        evaluation_steps=3,
        iterations=20_000,
        learning_rate=3e-3,
    )


def omniglot_five_shots() -> Preset:
    """5-way 5-shot of all characters, trained on tasks of the size of the tests."""
    preset = omniglot(5, 5, code=False)
    return dataclasses.replace(
        preset,
        name="omniglot_5w5s_short",
        title=f"{preset.title}, in a shorter training with five shots",
        # Batch norm takes its statistics from the queries of a task together, so the
        # network learns for the number of queries that it is trained with.
        protocol=f"{SPLIT}; 5 shots and "
        "5 queries a class in training as in tests, where the paper trains with one; "
        "the outer rate falls to zero along a cosine; mean cross-entropy; conv-4, 64 "
        "filters",
        families=functools.partial(
            _all_characters, ways=5, train_shots=5, shots=5, train_queries=5
        ),
        tasks=8,
        iterations=8_000,
        learning_rate=2e-3,
        cosine=True,
    )


def omniglot_alone() -> Preset:
    """5-way 1-shot of all characters, for a product that predicts each query alone."""
    preset = omniglot(5, 1, code=False)
    return dataclasses.replace(
        preset,
        name="omniglot_5w1s_alone",
        title=f"{preset.title}, each query predicted alone",
        protocol=f"{SPLIT}; 5 queries a "
        "class in training, 15 in tests; queries are normalised by the support set; "
        "the outer rate falls to zero along a cosine; mean cross-entropy; conv-4, 64 "
        "filters",
        published="none for queries that are predicted alone",
        families=functools.partial(
            _all_characters, ways=5, shots=1, train_queries=5, queries=15
        ),
        tasks=16,
        iterations=6_000,
        learning_rate=3e-3,
        epoch=200,
        cosine=True,
        variations=algorithm_settings.with_options(
            algorithm_settings.of_images(layer_rate=0.1, reptile_shots=10),
            recipes.RECIPES,
            batch_norm="support",
        ),
    )


def omniglot_small(ways: int) -> Preset:
    """1-shot tasks of the 242 characters in TFDS's splits `small1` and `small2`."""
    return Preset(
        name="omniglot_small" if ways == 5 else f"omniglot_small_{ways}w",
        title=f"Omniglot {ways}-way 1-shot on 242 characters",
        protocol="the splits small1 and small2; test alphabets "
        f"{' and '.join(TEST_ALPHABETS)}, validation {VALIDATION_ALPHABETS[0]}, "
        "training the other five, each class of a training episode rotated by a "
        "multiple of 90 degrees; 5 queries a class in training; mean "
        "cross-entropy; conv-4, 64 filters",
        adaptation="inner SGD 0.4, 1 step in training",
        published="none for this split",
        model=functools.partial(conv4, ways=ways),
        loss=cross_entropy,
        inner_rate=0.4,
        inner_steps=1,
        families=functools.partial(_few_characters, ways=ways),
        tasks=16 if ways == 5 else 4,
        iterations=4_600,
        learning_rate=3e-3,
        epoch=200,
        evaluation_steps=3,
        cosine=True,
        # Reptile sees as many images a class as the other algorithms: five support
        # images and one query, where they have one support image and five queries.
        variations=algorithm_settings.of_images(layer_rate=0.1, reptile_shots=5),
    )


def omniglot_small_alone() -> Preset:
    """The tasks of `omniglot_small`, for a product that predicts each query alone."""
    preset = omniglot_small(5)
    return dataclasses.replace(
        preset,
        name="omniglot_small_alone",
        title=f"{preset.title}, each query predicted alone",
        protocol=f"{preset.protocol}; in training the mirror image of each character "
        "is a further character, and queries are normalised by the support set",
        families=functools.partial(_few_characters, ways=5, mirrored=True),
        variations=algorithm_settings.with_options(
            preset.variations, recipes.RECIPES, batch_norm="support"
        ),
    )


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


def _all_characters(
    *,
    ways: int,
    shots: int,
    train_shots: int = 1,
    train_queries: int = 1,
    queries: int | None = None,
    data_dir: Any = None,
    download: bool = False,
    verbose: str | int = 0,
) -> Families:
    pool = data.omniglot(data_dir=data_dir, download=download, verbose=verbose)
    return _characters(
        data.split_omniglot(pool, "finn"),
        ways=ways,
        train_shots=train_shots,
        shots=shots,
        train_queries=train_queries,
        queries=shots if queries is None else queries,
        rotate_tests=True,
    )


def _few_characters(
    *,
    ways: int,
    mirrored: bool = False,
    data_dir: Any = None,
    download: bool = False,
    verbose: str | int = 0,
) -> Families:
    pool = data.omniglot(
        split="small1+small2", data_dir=data_dir, download=download, verbose=verbose
    )
    train, validation, test = data.split_classes(
        pool,
        train=None,
        validation=VALIDATION_ALPHABETS,
        test=TEST_ALPHABETS,
        by="group",
    )
    return _characters(
        (_with_mirror_images(train) if mirrored else train, validation, test),
        ways=ways,
        train_shots=1,
        shots=1,
        train_queries=5,
        queries=15,
        rotate_tests=False,
    )


def _with_mirror_images(pool: data.Pool) -> data.Pool:
    """The pool with the mirror image of each class as a further class."""
    names = pool.class_names
    return data.Pool(
        np.concatenate([pool.examples, pool.examples[:, :, ::-1]]),
        counts=np.tile(pool.counts, 2),
        class_names=[*names, *(f"{name}, mirrored" for name in names)],
        groups=None if pool.groups is None else pool.groups * 2,
        example_groups=(
            None if pool.example_groups is None else np.tile(pool.example_groups, 2)
        ),
    )

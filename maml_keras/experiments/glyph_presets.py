"""The preset `glyphs`: characters drawn from fonts, so that no network is needed."""

from __future__ import annotations

import functools
from typing import Any

from maml_keras import data, recipes
from maml_keras.experiments import algorithm_settings
from maml_keras.experiments.preset import Families, Preset, cross_entropy
from maml_keras.models.networks import conv4

# Scripts with letters of their own, chosen before any training.
TEST_SCRIPTS = ("Arabic", "Georgian", "Hebrew")
VALIDATION_SCRIPTS = ("Armenian", "Lao")


def glyphs() -> Preset:
    """1-shot tasks of characters drawn from matplotlib's fonts."""
    return Preset(
        name="glyphs",
        title="Glyphs 5-way 1-shot, characters drawn from fonts",
        protocol="all characters that `mk.data.glyphs()` draws, 20 drawings each; test "
        f"scripts {', '.join(TEST_SCRIPTS)}, validation "
        f"{' and '.join(VALIDATION_SCRIPTS)}, training all others; 5 queries a class "
        "in training; mean cross-entropy; conv-4, 64 filters; queries are normalised "
        "by the support set",
        adaptation="inner SGD 0.4, 1 step in training",
        published="none, because the characters are drawn here",
        model=functools.partial(conv4, ways=5),
        loss=cross_entropy,
        inner_rate=0.4,
        inner_steps=1,
        families=_scripts,
        tasks=16,
        iterations=2_000,
        learning_rate=3e-3,
        epoch=100,
        evaluation_steps=3,
        cosine=True,
        variations=algorithm_settings.with_options(
            algorithm_settings.of_images(layer_rate=0.1, reptile_shots=5),
            recipes.RECIPES,
            batch_norm="support",
        ),
    )


def _scripts(
    *, data_dir: Any = None, download: bool = False, verbose: str | int = 0
) -> Families:
    """The families of tasks. Nothing is downloaded, so only `verbose` matters."""
    train, *held_out = data.split_classes(
        data.glyphs(verbose=verbose),
        train=None,
        validation=VALIDATION_SCRIPTS,
        test=TEST_SCRIPTS,
        by="group",
    )
    family = functools.partial(data.NWayKShot, ways=5, shots=1)
    return Families(
        family(train, queries=5), *(family(pool, queries=15) for pool in held_out)
    )

"""All presets by name: the papers' experiments, and smaller ones of real data."""

from __future__ import annotations

import difflib

from maml_keras.experiments.glyph_presets import glyphs
from maml_keras.experiments.image_presets import SETS, images
from maml_keras.experiments.omniglot_presets import (
    PUBLISHED,
    omniglot,
    omniglot_alone,
    omniglot_five_shots,
    omniglot_short,
    omniglot_small,
    omniglot_small_alone,
)
from maml_keras.experiments.preset import Preset
from maml_keras.experiments.sinusoid_presets import sinusoid


def get(name: str) -> Preset:
    """The preset with that name.

    Raises:
        ValueError: if no preset has that name; the message gives the nearest one.

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


PRESETS = {
    preset.name: preset
    for preset in (
        *(
            sinusoid(shots, code=code)
            for shots in (10, 5, 20)
            for code in (False, True)
        ),
        glyphs(),
        *(omniglot_small(ways) for ways in (5, 20)),
        omniglot_small_alone(),
        *(omniglot_short(ways) for ways in (5, 20)),
        omniglot_five_shots(),
        omniglot_alone(),
        *(
            omniglot(ways, shots, code=code)
            for ways, shots in PUBLISHED
            for code in (False, True)
        ),
        *(
            images(key, shots, code=code)
            for key in SETS
            for shots in (1, 5)
            for code in (False, True)
        ),
    )
}

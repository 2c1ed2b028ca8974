"""`Glyphs`: the characters of `mk.data.glyphs` as a TFDS data set."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import tensorflow_datasets as tfds

from maml_keras.data.glyphs import glyphs


class Glyphs(tfds.core.GeneratorBasedBuilder):
    """Characters drawn from fonts, prepared on this machine; nothing is downloaded.

    Importing this module tells TFDS the name `glyphs`. A prepared copy is then read by
    every program that reads TFDS, without this library.

    ```python
    from maml_keras.data.glyphs_builder import Glyphs

    Glyphs(data_dir="prepared").download_and_prepare()
    pool = mk.data.from_tfds("glyphs", split="train", data_dir="prepared")
    ```

    The only split is `train`. An example has `image`, `script` and `label`, whose names
    are those of the pool's classes.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {
        "1.0.0": "Drawn from the fonts of matplotlib."
    }

    def _info(self) -> Any:
        pool = glyphs()
        return tfds.core.DatasetInfo(
            builder=self,
            description="Characters of many scripts, drawn from fonts with variation.",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=pool.examples.shape[1:]),
                    "label": tfds.features.ClassLabel(names=pool.class_names),
                    "script": tfds.features.Text(),
                }
            ),
            supervised_keys=("image", "label"),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        return {"train": self._generate_examples()}

    def _generate_examples(self) -> Iterator[tuple[int, dict[str, Any]]]:
        pool = glyphs()
        scripts = pool.groups or ()
        for label, (first, count) in enumerate(zip(pool.offsets, pool.counts)):
            for row in range(first, first + count):
                image, script = pool.examples[row], scripts[label]
                yield row, {"image": image, "label": label, "script": script}

"""The builder writes the pool of `glyphs`, which TFDS then reads."""

import numpy as np
import pytest

from maml_keras import data

pytestmark = pytest.mark.slow  # TFDS takes its time to write.


def test_tfds_reads_the_classes_and_drawings_of_the_pool(tmp_path, monkeypatch):
    pytest.importorskip("tensorflow_datasets")
    from maml_keras.data import glyphs_builder

    pool = data.Pool(
        np.random.default_rng(0).integers(0, 256, [6, 28, 28, 1], np.uint8),
        counts=[2, 4],
        class_names=["Greek/ALPHA", "Latin/A"],
        groups=["Greek", "Latin"],
    )
    monkeypatch.setattr(glyphs_builder, "glyphs", lambda: pool)
    builder = glyphs_builder.Glyphs(data_dir=tmp_path)
    builder.download_and_prepare()
    read = data.from_tfds("glyphs", split="train", data_dir=str(tmp_path))
    assert read.class_names == pool.class_names
    np.testing.assert_array_equal(read.counts, pool.counts)
    np.testing.assert_array_equal(read.examples, pool.examples)
    scripts = [row["script"] for row in builder.as_dataset("train").as_numpy_iterator()]
    assert scripts == [b"Greek"] * 2 + [b"Latin"] * 4

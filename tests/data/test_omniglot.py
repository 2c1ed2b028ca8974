"""The preparation of Omniglot's drawings, tested on three artificial drawings."""

import importlib
import types

import numpy as np
import tensorflow as tf


def test_ink_is_bright_and_a_drawing_is_kept_once():
    omniglot = importlib.import_module("maml_keras.data.omniglot")
    image = np.full([3, 105, 105, 3], 255, "uint8")
    image[:2, 40:60, 40:60] = 0  # Two equal drawings.
    image[2, 10:30, 10:30] = 0
    rows = {
        "image": image,
        "label": [7, 7, 9],
        "alphabet": [0, 0, 1],
        "alphabet_char_id": [0, 0, 4],
    }
    alphabets = types.SimpleNamespace(names=["Greek", "Latin"])
    info = types.SimpleNamespace(features={"alphabet": alphabets})
    pool = omniglot._prepare(
        types.SimpleNamespace(info=info),
        tf.data.Dataset.from_tensor_slices(rows),
        28,
        0,
    )
    assert pool.class_names == ("Greek/character01", "Latin/character05")
    assert pool.groups == ("Greek", "Latin")
    assert pool.counts.tolist() == [1, 1]
    assert pool.examples[0, 13, 13, 0] > 250
    assert pool.examples[0, 0, 0, 0] == 0

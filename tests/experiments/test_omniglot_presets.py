"""The Omniglot presets: classes, rotations and queries."""

import os

import numpy as np
import pytest

from maml_keras.experiments import registry


def real_drawings(test):
    """A journey, because real drawings are read."""
    missing = not os.environ.get("TFDS_DATA_DIR")
    reason = "TFDS_DATA_DIR is not set: no Omniglot"
    return pytest.mark.journey(pytest.mark.skipif(missing, reason=reason)(test))


@real_drawings
def test_the_small_omniglot_holds_two_whole_alphabets_out():
    train, validation, test = registry.get("omniglot_small").families()
    alphabets = [set(family.pool.groups) for family in (train, validation, test)]
    assert alphabets[2] == {"Early_Aramaic", "Tagalog"}
    assert alphabets[1] == {"Greek"}
    assert len(alphabets[0]) == 5
    assert not alphabets[0] & alphabets[1]
    assert not alphabets[2] & (alphabets[0] | alphabets[1])
    assert (train.rotate_classes, test.rotate_classes) == (True, False)
    assert (test.ways, test.shots, test.queries) == (5, 1, 15)


@real_drawings
def test_mirror_images_are_further_classes_of_training_alone():
    plain, mirrored = (
        registry.get(name).families()
        for name in ("omniglot_small", "omniglot_small_alone")
    )
    count, rows = plain.train.pool.num_classes, len(plain.train.pool.examples)
    assert mirrored.train.pool.num_classes == 2 * count
    images = mirrored.train.pool.examples
    np.testing.assert_array_equal(images[:rows], plain.train.pool.examples)
    np.testing.assert_array_equal(images[rows:, :, ::-1], images[:rows])
    for a, b in zip(plain[1:], mirrored[1:]):
        assert a.pool.class_names == b.pool.class_names


@pytest.mark.parametrize("algorithm", ["maml", "reptile", "maml_plus_plus"])
@pytest.mark.parametrize("preset", ["omniglot_small_alone", "omniglot_5w1s_alone"])
def test_every_algorithm_of_a_preset_for_single_queries_predicts_them_so(
    preset, algorithm
):
    maml = registry.get(preset).build(algorithm, 100)
    assert not maml.learner.couples_queries

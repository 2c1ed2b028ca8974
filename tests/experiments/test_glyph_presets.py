"""The preset of glyphs: whole scripts are held out, and queries are predicted alone."""

import numpy as np
import pytest

from maml_keras import data
from maml_keras.experiments import registry
from maml_keras.experiments.glyph_presets import TEST_SCRIPTS, VALIDATION_SCRIPTS


def test_whole_scripts_are_held_out(monkeypatch):
    def few(**arguments):
        """Five classes of each script, without pictures."""
        scripts = ["Ogham", "Coptic", *TEST_SCRIPTS, *VALIDATION_SCRIPTS]
        classes = np.repeat(np.arange(5 * len(scripts)), 16)
        noise = np.random.default_rng(0).normal(size=[len(classes), 3])
        return data.from_arrays(noise, classes, groups=np.repeat(scripts, 5))

    monkeypatch.setattr(data, "glyphs", few)
    train, validation, test = registry.get("glyphs").families()
    assert set(test.pool.groups) == set(TEST_SCRIPTS)
    assert set(validation.pool.groups) == set(VALIDATION_SCRIPTS)
    assert set(train.pool.groups) == {"Ogham", "Coptic"}
    assert (train.ways, train.shots, train.queries) == (5, 1, 5)
    assert (test.ways, test.shots, test.queries) == (5, 1, 15)


@pytest.mark.parametrize("algorithm", ["maml", "maml_plus_plus"])
def test_each_query_is_predicted_alone(algorithm):
    maml = registry.get("glyphs").build(algorithm, 100)
    assert not maml.learner.couples_queries

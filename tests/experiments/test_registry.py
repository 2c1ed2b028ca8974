"""Presets by name."""

import pytest

from maml_keras.experiments import registry


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match="Did you mean 'sinusoid'"):
        registry.get("sinusiod")

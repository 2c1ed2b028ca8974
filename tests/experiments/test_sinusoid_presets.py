"""The sinusoid preset is the paper's experiment."""

import pytest

from maml_keras.experiments import registry


def test_the_sinusoid_preset_has_the_settings_of_its_paper():
    preset = registry.get("sinusoid")
    family = preset.families().train
    assert (family.amplitude, family.x) == ((0.1, 5.0), (-5.0, 5.0))
    assert (family.shots, family.queries) == (10, 10)
    assert preset.model().count_params() == 1761  # 1-40-40-1
    assert (preset.tasks, preset.iterations, preset.learning_rate) == (25, 70_000, 1e-3)
    inner = preset.build().inner
    assert (inner.steps, inner.rule.learning_rate, inner.second_order) == (
        1,
        0.01,
        True,
    )


@pytest.mark.parametrize("shots", [5, 10, 20])
@pytest.mark.parametrize("code", [False, True])
def test_sinusoids_train_with_ten_shots_and_are_tested_with_others(shots, code):
    name = "sinusoid" + (f"_{shots}" if shots != 10 else "") + "_code" * code
    preset = registry.get(name)
    assert [f.shots for f in preset.families()] == [10, 10, shots]
    queries = shots if code else 10
    assert [f.queries for f in preset.families()] == [10, 10, queries]
    rate = preset.build().inner.rule.learning_rate
    assert rate == (0.001 if code else 0.01)

"""The presets of mini-ImageNet and CIFAR-FS."""

import pytest

from maml_keras.experiments import registry


def test_maml_plus_plus_on_mini_imagenet_has_the_released_settings():
    maml = registry.get("mini_imagenet_5w1s").build("maml_plus_plus")
    assert float(maml.optimizer.learning_rate) == pytest.approx(1e-3)
    assert maml.model.layers[0].filters == 48
    # 15 of 100 epochs, of 500 meta-steps each, use the loss of all steps.
    assert maml.meta_gradient.phases[0].objective.epochs == 15
    assert maml.meta_gradient.until == [15 * 500]
    assert maml.inner.rule.learning_rate == 0.01

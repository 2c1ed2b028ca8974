"""The presets are the papers' experiments."""

import dataclasses
import re

import keras
import numpy as np
import pytest

from maml_keras import data, recipes
from maml_keras.experiments import algorithm_settings, registry

# Name: inner rate (for the mean loss), inner steps in training and in tests, tasks,
# meta-steps, bound of the meta-gradient, (shots, queries) in training and in tests.
# The values are those of the paper's text; with `_code`, those of its code, whose loss
# is a sum over N classes: N times the mean.
PUBLISHED = {
    "omniglot_5w1s": (0.4, 1, 3, 32, 60_000, None, (1, 1), (1, 1)),
    "omniglot_5w1s_code": (2.0, 1, 10, 32, 40_000, None, (1, 1), (1, 1)),
    "omniglot_5w5s": (0.4, 1, 3, 32, 60_000, None, (1, 1), (5, 5)),
    "omniglot_5w5s_code": (2.0, 1, 10, 32, 40_000, None, (1, 1), (5, 5)),
    "omniglot_20w1s": (0.1, 5, 5, 16, 60_000, None, (1, 1), (1, 1)),
    "omniglot_20w1s_code": (2.0, 5, 10, 16, 40_000, None, (1, 1), (1, 1)),
    "omniglot_20w5s": (0.1, 5, 5, 16, 60_000, None, (1, 1), (5, 5)),
    "omniglot_20w5s_code": (2.0, 5, 10, 16, 40_000, None, (1, 1), (5, 5)),
    "mini_imagenet_5w1s": (0.01, 5, 10, 4, 60_000, 10, (1, 15), (1, 1)),
    # The code clips the gradient of the sum over 75 queries, divided by the shots.
    "mini_imagenet_5w1s_code": (0.05, 5, 10, 4, 60_000, 10 / 75, (1, 15), (1, 1)),
    "mini_imagenet_5w5s": (0.01, 5, 10, 2, 60_000, 10, (5, 15), (5, 5)),
    "mini_imagenet_5w5s_code": (0.05, 5, 10, 4, 60_000, 50 / 75, (5, 15), (5, 5)),
}
PUBLISHED |= {
    name.replace("mini_imagenet", "cifar_fs"): row
    for name, row in PUBLISHED.items()
    if name.startswith("mini_imagenet")
}


def pool_of(classes, *, each=20):
    labels = np.repeat(np.arange(classes), each)
    return data.from_arrays(np.zeros([len(labels), 2, 2, 1], np.uint8), labels)


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_preset_has_the_settings_of_its_paper(name, monkeypatch):
    preset = registry.get(name)
    if name.startswith("omniglot"):
        monkeypatch.setattr(data, "omniglot", lambda **_: pool_of(1623))
        families = preset.families()
    else:
        load = lambda **_: (pool_of(5), pool_of(5), pool_of(5))  # noqa: E731
        families = preset.families.func(load, **preset.families.keywords)
    maml = preset.build()
    ways = int(re.search(r"(\d+)w", name)[1])
    rate, steps, test_steps, tasks, iterations, clip, *sizes = PUBLISHED[name]
    assert maml.inner.rule.learning_rate == pytest.approx(rate)
    assert (maml.inner.steps, preset.evaluation_steps) == (steps, test_steps)
    assert (preset.tasks, preset.iterations) == (tasks, iterations)
    assert float(maml.optimizer.learning_rate) == pytest.approx(1e-3)
    assert maml.optimizer.clipvalue == (clip and pytest.approx(clip))
    assert maml.model.output_shape[-1] == ways
    # Parameters of the paper's networks: 64 filters on 28x28, or 32 with pooling.
    side, channels, filters, features = (
        (28, 1, 64, 64)
        if name.startswith("omniglot")
        else (84, 3, 32, 800)
        if name.startswith("mini")
        else (32, 3, 32, 128)
    )
    assert maml.model.input_shape == (None, side, side, channels)
    kernels = 9 * filters * (channels + 3 * filters) + features * ways
    assert maml.model.count_params() == kernels + 4 * filters * 5 + ways
    # In the paper's text scale and offset of four layers adapt; in its code they do
    # not.
    adapted = maml.inner.selected(maml.learner, maml.learner.variables)
    code = name.endswith("_code")
    assert len(maml.learner.variables) - len(adapted) == (8 if code else 0)
    for family, (shots, queries) in zip(families, (*sizes, sizes[1])):
        assert (family.ways, family.shots, family.queries) == (ways, shots, queries)
        assert family.rotate_classes == name.startswith("omniglot")
    if name.startswith("omniglot"):
        assert [f.pool.num_classes for f in families] == [1100, 100, 423]


@pytest.mark.parametrize("algorithm", recipes.RECIPES)
@pytest.mark.parametrize(
    "name", ["sinusoid", "omniglot_small", "omniglot_small_alone", "cifar_fs_5w1s"]
)
def test_every_algorithm_can_be_built_for_a_preset(name, algorithm):
    preset = registry.get(name)
    # Sinusoids have no classes.
    if name == "sinusoid" and algorithm in ("proto_maml", "prototypical"):
        with pytest.raises(ValueError, match="needs class numbers.*'mse'"):
            preset.build(algorithm, 100)
    else:
        assert preset.build(algorithm, 100).optimizer is not None


@pytest.mark.parametrize("algorithm", ["prototypical", "ridge"])
def test_a_closed_form_takes_no_step_of_the_presets_gradient_descent(algorithm):
    preset = registry.get("omniglot_small")
    options = {"batch_norm": "support"}
    changed = {algorithm: algorithm_settings.Variation(options=options)}
    for variations in (preset.variations, changed):
        maml = dataclasses.replace(preset, variations=variations).build(algorithm)
        assert (maml.inner.steps, maml.rule.learning_rate) == (0, 0.0)
    assert maml.batch_norm.name == "support"
    asked = {algorithm: algorithm_settings.Variation(steps=2, learning_rate=0.1)}
    maml = dataclasses.replace(preset, variations=asked).build(algorithm)
    assert (maml.inner.steps, maml.rule.learning_rate) == (2, 0.1)


@pytest.mark.parametrize(
    "given",
    [
        {"loss": "mse"},
        {"loss": keras.losses.mean_squared_error},
        {"loss": keras.losses.MeanSquaredError()},
        {"model": keras.Sequential()},
        {"families": None},
    ],
)
def test_a_preset_of_objects_instead_of_functions_is_refused(given):
    (name,) = given
    with pytest.raises(TypeError, match=f"`{name}` must be a function without"):
        dataclasses.replace(registry.get("sinusoid"), **given)
    dataclasses.replace(
        registry.get("sinusoid"), loss=keras.losses.MeanSquaredError
    ).build()

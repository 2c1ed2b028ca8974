"""The presets are the papers' experiments."""

import dataclasses
import os
import re

import keras
import numpy as np
import pytest

from maml_keras import data, recipes
from maml_keras.experiments import registry

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
    if (name, algorithm) == ("sinusoid", "proto_maml"):  # Sinusoids have no classes.
        with pytest.raises(ValueError, match="needs class numbers.*'mse'"):
            preset.build(algorithm, 100)
    else:
        assert preset.build(algorithm, 100).optimizer is not None


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


@pytest.mark.parametrize(
    ("name", "algorithm", "steps", "tasks", "iterations"),
    [
        ("omniglot_5w1s", "imaml", 16, 32, 60_000),
        ("omniglot_5w1s", "maml_plus_plus", 5, 8, 50_000),
        ("omniglot_5w1s_code", "maml_plus_plus", 5, 8, 50_000),
        ("omniglot_5w1s", "reptile", 50, 5, 100_000),
        ("omniglot_5w1s", "maml", 3, 32, 60_000),
        ("mini_imagenet_5w1s", "maml_plus_plus", 5, 2, 50_000),
        ("mini_imagenet_5w5s", "reptile", 50, 5, 100_000),
        ("cifar_fs_5w1s", "cavia", 2, 16, 60_000),
        ("sinusoid", "imaml", 32, 25, 70_000),
    ],
)
def test_an_algorithm_is_run_as_its_paper_does(
    name, algorithm, steps, tasks, iterations
):
    preset = registry.get(name).of(algorithm)
    found = preset.evaluation_steps, preset.tasks, preset.iterations
    assert found == (steps, tasks, iterations)
    # A card of any algorithm states that the published figure is MAML's.
    assert "MAML (" in preset.published


def test_maml_plus_plus_on_mini_imagenet_has_the_released_settings():
    maml = registry.get("mini_imagenet_5w1s").build("maml_plus_plus")
    assert float(maml.optimizer.learning_rate) == pytest.approx(1e-3)
    assert maml.model.layers[0].filters == 48
    # 15 of 100 epochs, of 500 meta-steps each, use the loss of all steps.
    assert maml.meta_gradient.phases[0].objective.epochs == 15
    assert maml.meta_gradient.until == [15 * 500]
    assert maml.inner.rule.learning_rate == 0.01


def test_maml_plus_plus_trains_with_the_shots_of_the_tests():
    pool = data.from_arrays(np.zeros([200, 28, 28, 1], "uint8"), np.arange(200) // 20)
    family = data.NWayKShot(pool, ways=5, shots=1, queries=1)
    preset = registry.get("omniglot_5w5s")
    trained = preset.variation("maml_plus_plus").training(family)
    assert (trained.shots, trained.queries) == (5, 1)
    assert preset.of("maml_plus_plus").protocol.endswith("MAML++ trains 5-shot")
    one = registry.get("omniglot_5w1s")
    assert one.variation("maml_plus_plus").training(family).shots == 1
    assert one.of("maml_plus_plus").protocol == one.protocol


def test_an_outer_schedule_has_the_algorithms_own_length():
    maml = registry.get("omniglot_5w1s").build("reptile")
    rate = maml.optimizer._learning_rate
    assert float(rate(60_000)) == pytest.approx(0.4)
    assert float(rate(100_000)) == 0.0


def test_a_protocol_states_an_algorithms_changes_once():
    preset = registry.get("omniglot_5w1s")
    changes = "; Reptile trains 10-shot with one query a class"
    assert preset.of("reptile").of("reptile").protocol == preset.protocol + changes
    assert preset.of("anil").protocol == preset.protocol


def test_the_outer_rate_of_maml_plus_plus_falls_along_a_cosine():
    maml = registry.get("omniglot_5w1s").build("maml_plus_plus", 1_000)
    rate = maml.optimizer._learning_rate
    found = [float(rate(step)) for step in (0, 500, 1_000)]
    np.testing.assert_allclose(found, [1e-3, 5.05e-4, 1e-5], rtol=1e-4)


@pytest.mark.parametrize(
    ("name", "rate"),
    [
        ("mini_imagenet_5w1s", 0.01),
        ("cifar_fs_5w5s_code", 0.01),
        ("omniglot_5w1s", 0.1),
    ],
)
def test_inner_rates_of_maml_plus_plus_start_at_the_released_values(name, rate):
    rule = registry.get(name).build("maml_plus_plus", 1_000).inner.rule
    np.testing.assert_allclose(rule.rates, rate)


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


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match="Did you mean 'sinusoid'"):
        registry.get("sinusiod")


@pytest.mark.skipif(
    not os.environ.get("TFDS_DATA_DIR"), reason="TFDS_DATA_DIR is not set: no Omniglot"
)
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


@pytest.mark.skipif(
    not os.environ.get("TFDS_DATA_DIR"), reason="TFDS_DATA_DIR is not set: no Omniglot"
)
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
def test_every_algorithm_of_the_preset_for_single_queries_predicts_them_so(algorithm):
    maml = registry.get("omniglot_small_alone").build(algorithm, 100)
    assert not maml.learner.couples_queries


def test_reptile_gets_the_queries_of_other_algorithms_as_support():
    preset = registry.get("sinusoid")
    families = preset.families()
    task, query_y = next(iter(preset.episodes("reptile", families, 0)))
    assert task["support_x"].shape == (25, 19, 1)
    assert query_y.shape == (25, 1, 1)
    task, query_y = next(iter(preset.episodes("maml", families, 0)))
    assert task["support_x"].shape == (25, 10, 1)
    assert query_y.shape == (25, 10, 1)


@pytest.mark.parametrize(
    ("name", "shots"), [("omniglot_5w1s", 10), ("cifar_fs_5w1s", 15)]
)
def test_reptile_trains_with_as_many_images_as_in_its_paper(name, shots):
    family = data.NWayKShot(pool_of(10), ways=5, shots=1, queries=1)
    own = registry.get(name).variation("reptile").training(family)
    assert (own.shots, own.queries) == (shots, 1)


@pytest.mark.parametrize(("iterations", "epochs"), [(100_000, 15), (1_000, 1)])
def test_the_multi_step_loss_lasts_for_the_same_share_of_any_run(iterations, epochs):
    # 15 of 100 epochs of 1,000 meta-steps anneal; a run of one epoch anneals for one.
    maml = registry.get("sinusoid").build("maml_plus_plus", iterations)
    first, _ = maml.meta_gradient.phases
    assert first.objective.epochs == epochs
    assert maml.meta_gradient.until == [epochs * 1_000]

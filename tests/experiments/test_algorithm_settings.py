"""Each algorithm is run as its paper does."""

import numpy as np
import pytest

from maml_keras import data
from maml_keras.experiments import registry


def pool_of(classes, *, each=20):
    labels = np.repeat(np.arange(classes), each)
    return data.from_arrays(np.zeros([len(labels), 2, 2, 1], np.uint8), labels)


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

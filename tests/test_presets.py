"""The presets are the papers' experiments."""

import os

import pytest

from maml_keras import experiments


def test_sinusoid_is_the_papers():
    preset = experiments.get("sinusoid")
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


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match="Did you mean 'sinusoid'"):
        experiments.get("sinusiod")


@pytest.mark.skipif(
    not os.environ.get("TFDS_DATA_DIR"), reason="TFDS_DATA_DIR is not set: no Omniglot"
)
def test_the_small_omniglot_holds_two_whole_alphabets_out():
    train, validation, test = experiments.get("omniglot_small").families()
    alphabets = [set(family.pool.groups) for family in (train, validation, test)]
    assert alphabets[2] == {"Early_Aramaic", "Tagalog"}
    assert alphabets[1] == {"Greek"}
    assert len(alphabets[0]) == 5
    assert not alphabets[0] & alphabets[1]
    assert not alphabets[2] & (alphabets[0] | alphabets[1])
    assert (train.rotate_classes, test.rotate_classes) == (True, False)
    assert (test.ways, test.shots, test.queries) == (5, 1, 15)


def test_reptile_gets_what_the_others_have_as_queries_as_support():
    preset = experiments.get("sinusoid")
    families = preset.families()
    task, query_y = next(iter(preset.episodes("reptile", families, 0)))
    assert task["support_x"].shape == (25, 19, 1)
    assert query_y.shape == (25, 1, 1)
    task, query_y = next(iter(preset.episodes("maml", families, 0)))
    assert task["support_x"].shape == (25, 10, 1)
    assert query_y.shape == (25, 10, 1)


@pytest.mark.parametrize(("iterations", "epochs"), [(100_000, 15), (1_000, 1)])
def test_the_multi_step_loss_lasts_for_the_same_share_of_any_run(iterations, epochs):
    # 100 epochs of 1,000 meta-steps anneal for 15; a single one for itself.
    maml = experiments.get("sinusoid").build("maml_plus_plus", iterations)
    first, _ = maml.meta_gradient.phases
    assert first.objective.epochs == epochs
    assert maml.meta_gradient.until == [epochs * 1_000]

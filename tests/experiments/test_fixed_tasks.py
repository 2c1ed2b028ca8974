"""All runs of a preset are measured on the same tasks, and results are written."""

import dataclasses
import json

import numpy as np
import pytest

from maml_keras.experiments import fixed_tasks, registry

SMALL = dataclasses.replace(registry.get("sinusoid"), evaluation_steps=2)
OPTIONS = {"num_tasks": 25, "verbose": 0}


@pytest.fixture(scope="module")
def maml():
    return SMALL.build("maml", 20)


def test_test_tasks_are_the_same_in_every_call_and_differ_from_validation(maml):
    first = fixed_tasks.evaluate(maml, SMALL, **OPTIONS)
    again = fixed_tasks.evaluate(maml, SMALL, **OPTIONS)
    other = fixed_tasks.evaluate(maml, SMALL, on="validation", **OPTIONS)
    np.testing.assert_array_equal(first.per_episode, again.per_episode)
    assert not np.allclose(first.per_episode[:, 0], other.per_episode[:, 0])
    with pytest.raises(ValueError, match="'test' or 'validation'"):
        fixed_tasks.evaluate(maml, SMALL, on="training", **OPTIONS)


def test_an_ensemble_of_one_is_that_one(maml):
    alone = fixed_tasks.evaluate(maml, SMALL, **OPTIONS)
    whole = fixed_tasks.evaluate_ensemble([maml, maml], SMALL, **OPTIONS)
    np.testing.assert_allclose(whole.mean.curve, alone.curve, rtol=1e-5)


def test_a_result_replaces_no_earlier_one_and_names_other_tasks(maml, tmp_path):
    result = fixed_tasks.evaluate(maml, SMALL, **OPTIONS)
    first = fixed_tasks.write_result(tmp_path, result)
    other = registry.get("sinusoid_5")
    second = fixed_tasks.write_result(tmp_path, result, preset=other)
    assert [first.name, second.name] == ["evaluation.json", "evaluation-2.json"]
    own, named = (json.loads(path.read_text("utf-8")) for path in (first, second))
    assert "preset" not in own
    assert named.pop("preset") == "sinusoid_5"
    assert own == named
    assert (own["on"], own["seed"]) == ("test", fixed_tasks.TEST_SEED)

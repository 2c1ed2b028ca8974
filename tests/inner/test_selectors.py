"""Selectors: which weights adapt."""

import keras
import pytest
from helpers import dense, frozen, nested, shared, subclassed

from maml_keras import (
    all_but_last_layer,
    all_weights,
    last_layer,
    matching,
    satisfying,
)


@keras.saving.register_keras_serializable(package="tests")
def is_matrix(variable):
    return len(variable.shape) == 2


SELECTORS = [
    all_weights(),
    last_layer(),
    all_but_last_layer(),
    matching("bias"),
    satisfying(is_matrix),
]
BODY, HEAD = [True, True, False, False], [False, False, True, True]


@pytest.mark.parametrize("build", [dense, nested, shared, subclassed])
def test_head_and_body_of_every_kind_of_model(build):
    model = build()
    assert all_weights().select(model) == [True] * 4
    assert last_layer().select(model) == HEAD
    assert all_but_last_layer().select(model) == BODY


def test_matching_finds_the_pattern_in_the_path():
    assert matching("head/kernel").select(dense()) == [False, False, True, False]
    assert matching("bias$").select(dense()) == [False, True, False, True]


def test_a_predicate_selects_each_variable():
    assert satisfying(is_matrix).select(dense()) == [True, False, True, False]
    with pytest.raises(ValueError, match="at least one trainable weight.*Satisfying"):
        satisfying(lambda v: False).select(dense())
    with pytest.raises(TypeError, match="must be a function of a variable.*'bias'"):
        satisfying("bias")


def test_last_layer_of_a_nested_model_is_found_inside():
    body = keras.Sequential(
        [keras.Input([3]), keras.layers.Dense(4), keras.layers.Dense(2, name="head")]
    )
    x = keras.Input([3])
    model = keras.Model(x, keras.layers.Activation("tanh")(body(x)))
    assert last_layer().select(model) == HEAD


def test_a_frozen_head_is_skipped():
    model = dense()
    model.layers[-1].trainable = False
    assert last_layer().select(model) == [True, True]


def test_selection_counts_trainable_variables_only():
    assert all_weights().select(frozen()) == [True, True]


@pytest.mark.parametrize("selector", SELECTORS, ids=repr)
def test_config_round_trip(selector):
    revived = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(selector)
    )
    assert type(revived) is type(selector)
    assert revived.select(dense()) == selector.select(dense())


def test_pattern_that_matches_nothing_names_the_paths():
    with pytest.raises(
        ValueError, match=r"one trainable weight.*'none'.*dense\w*/kernel"
    ):
        matching("none").select(dense())


def test_body_of_a_single_layer_is_refused():
    model = keras.Sequential([keras.Input([3]), keras.layers.Dense(1)])
    with pytest.raises(ValueError, match=r"AllButLastLayer\(\), which chooses none"):
        all_but_last_layer().select(model)


def test_broken_pattern_is_refused_at_once():
    with pytest.raises(ValueError, match=r"regular expression.*'\('"):
        matching("(")

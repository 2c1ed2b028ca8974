"""Texts of a search become choices and intervals."""

import keras_tuner
import pytest

from maml_keras.experiments import search_space
from maml_keras.experiments.search_space import Choices, Interval


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("inner_rate=0.01:1:log", Interval(0.01, 1.0, log=True)),
        ("inner_rate=1:2", Interval(1.0, 2.0)),
        ("steps=1:10", Interval(1, 10)),
        ("steps=1,3,5", Choices((1, 3, 5))),
        ("inner_rate=1,0.1", Choices((1.0, 0.1))),
        ("batch_norm=support,transductive", Choices(("support", "transductive"))),
    ],
)
def test_each_form_is_read(text, expected):
    (found,) = search_space.read(text, "maml").values()
    assert found == expected
    kinds = {type(getattr(found, "low", None)), type(getattr(expected, "low", None))}
    assert len(kinds) == 1  # 1 and 1.0 are equal, but not the same search.


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("inner_rate=1:0.1", "must be one value, values with commas, LOW:HIGH"),
        ("inner_rate=0.1:1:lin", "must be one value, values with commas, LOW:HIGH"),
        ("inner_rate=0.1:1:log:2", "must be one value, values with commas, LOW:HIGH"),
        ("batch_norm=a:b", "must be one value, values with commas, LOW:HIGH"),
        ("steps=1,1", "Received: steps=1,1"),
        ("inner_rate=0:1:log", "needs ends above 0. Received: inner_rate=0:1:log"),
        ("inner_rate=0.1", "must give several values of a setting"),
        ("steps=0.5,1", "`steps` must be of type int. Received: steps=0.5"),
        ("stepz=1,2", "Did you mean 'steps'"),
        ("", "must be NAME=VALUE"),
    ],
)
def test_another_form_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        search_space.read(text, "maml")


def test_keras_tuner_gets_the_same_space():
    space = search_space.read(
        "inner_rate=0.01:1:log steps=1:4 clip_norm=0.5,1 outer_rate=0.1", "imaml"
    )
    found = keras_tuner.HyperParameters()
    for name, values in space.items():
        values.add_to(found, name)
    rate, steps, clip, outer = found.space
    assert (rate.min_value, rate.max_value, rate.sampling) == (0.01, 1.0, "log")
    assert isinstance(steps, keras_tuner.engine.hyperparameters.Int)
    assert list(clip.values) == [0.5, 1.0]
    assert found["outer_rate"] == outer.value == 0.1


def test_the_end_that_a_value_is_near():
    log = Interval(0.01, 1.0, log=True)
    assert log.edge_of(0.011) == "lowest value 0.01"
    assert log.edge_of(0.95) == "highest value 1"
    assert log.edge_of(0.1) is None
    assert Interval(0.01, 1.0).edge_of(0.1) is None
    assert Choices((1, 3)).edge_of(3) is None


def test_values_by_name_are_the_same_as_text():
    text = search_space.text_of({"inner_rate": "0.01:1:log", "steps": (1, 3)})
    assert text == search_space.text_of("inner_rate=0.01:1:log steps=1,3")

"""Columns are scaled, encoded and filled as NumPy does it; and back."""

import json

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from maml_keras.data import TablePreparation, from_table
from maml_keras.data.target_kinds import Classes, Labels


def frame():
    generator = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "task": list("aaaabbbb"),
            "age": generator.normal(40.0, 9.0, 8),
            "gdp": [1e4, None, 3e4, 2e4, 5e4, 1e4, None, 2e4],
            "member": [True, False, True, True, False, True, True, False],
            "town": ["Oslo", "Rome", None, "Rome", "Oslo", "Rome", "Oslo", "Rome"],
            "life": generator.normal(70.0, 5.0, 8),
            "kids": generator.normal(2.0, 1.0, 8),
            "wet": [True, False] * 4,
            "hot": [False, False, True, True] * 2,
        }
    )


def table(data=None, **changes):
    settings = {
        "task": "task",
        "inputs": ["age", "gdp", "member", "town"],
        "target": "life",
        "missing": "mean",
    }
    return from_table(frame() if data is None else data, **{**settings, **changes})


def test_the_matrix_equals_that_of_pandas():
    preparation = TablePreparation.fit(table())
    x, y = preparation.raw(frame())
    found = pd.DataFrame(
        preparation.inputs(x).numpy(), columns=preparation.feature_names
    )
    df = frame()
    scaled = (df.age - df.age.mean()) / df.age.std(ddof=0)
    np.testing.assert_allclose(found["age"], scaled, atol=1e-5)
    filled = df.gdp.fillna(df.gdp.mean())
    scaled = (filled - df.gdp.mean()) / df.gdp.std(ddof=0)
    np.testing.assert_allclose(found["gdp"], scaled, atol=1e-5)
    np.testing.assert_array_equal(found["gdp is missing"], df.gdp.isna())
    flags = df.member.astype(float)
    np.testing.assert_allclose(
        found["member"], (flags - flags.mean()) / flags.std(ddof=0), atol=1e-6
    )
    np.testing.assert_array_equal(found["town='Oslo'"], df.town == "Oslo")
    np.testing.assert_array_equal(found["town='Rome'"], df.town == "Rome")
    np.testing.assert_array_equal(found["town is missing"], df.town.isna())
    assert preparation.num_features == found.shape[1] == 7
    # Targets there and back, in the unit of the column.
    np.testing.assert_array_equal(y, df[["life"]].to_numpy("float32"))
    prepared = preparation.targets(y).numpy()
    np.testing.assert_allclose([prepared.mean(), prepared.std()], [0, 1], atol=1e-5)
    np.testing.assert_allclose(preparation.restored(prepared), y, rtol=1e-6)


def test_several_numbers_labels_and_classes_are_targets():
    numbers = TablePreparation.fit(table(target=["life", "kids"]))
    _, y = numbers.raw(frame())
    np.testing.assert_allclose(numbers.restored(numbers.targets(y)), y, rtol=1e-6)
    assert numbers.num_outputs == 2
    labels = TablePreparation.fit(table(target=["wet", "hot"]))
    assert isinstance(labels.target_columns, Labels)
    _, y = labels.raw(frame())
    np.testing.assert_array_equal(labels.targets(y), frame()[["wet", "hot"]])
    classes = TablePreparation.fit(
        table(frame().assign(town=list("BABACABA")), target="town", inputs=["age"])
    )
    assert isinstance(classes.target_columns, Classes)
    _, y = classes.raw(frame(), ["C", "A", "B"])
    assert classes.targets(y).numpy().tolist() == [2, 0, 1]
    assert classes.num_outputs == 3
    numbered = table(
        frame().assign(code=[3, 1] * 4), target="code", categorical=["code"]
    )
    assert TablePreparation.fit(numbered).target_columns.vocabulary == ["1", "3"]


def test_the_configuration_is_plain_data_and_gives_the_same_numbers():
    for target in ("life", ["wet", "hot"]):
        preparation = TablePreparation.fit(table(target=target))
        text = json.dumps(keras.saving.serialize_keras_object(preparation))
        again = keras.saving.deserialize_keras_object(json.loads(text))
        x, y = preparation.raw(frame())
        np.testing.assert_array_equal(again.inputs(x), preparation.inputs(x))
        np.testing.assert_array_equal(again.targets(y), preparation.targets(y))
        assert again.get_config() == preparation.get_config()


def test_targets_are_optional_and_may_come_apart():
    preparation = TablePreparation.fit(table())
    x, y = preparation.raw(frame().drop(columns="life"))
    assert sorted(x) == ["age", "gdp", "member", "town"]
    assert y is None
    _, y = preparation.raw(x, [1.0, 2.0])
    np.testing.assert_array_equal(y, [[1.0], [2.0]])


def test_missing_and_unknown_values_in_use():
    lenient = TablePreparation.fit(table(unknown="zeros"))
    row = {"age": [40.0], "gdp": [None], "member": [None], "town": ["Bern"]}
    found = dict(
        zip(lenient.feature_names, lenient.inputs(lenient.raw(row)[0]).numpy()[0])
    )
    # `member` has no missing values in training, so it is its mean without a sign.
    assert found["member"] == found["gdp"] == 0.0
    assert found["gdp is missing"] == 1.0
    assert [found[f"town={t!r}"] for t in ("Oslo", "Rome")] == [0.0, 0.0]
    x, _ = lenient.raw({**row, "town": [None]})
    assert dict(zip(lenient.feature_names, lenient.inputs(x).numpy()[0]))[
        "town is missing"
    ]
    whole = frame().dropna()
    strict = TablePreparation.fit(table(whole, missing="refuse"))
    row = {"age": [40.0, 41.0], "gdp": [1.0, 2.0], "member": [True, True]}
    for change, message in [
        ({"town": ["Oslo", "Bern"]}, "'town' .*knows: 'Oslo', 'Rome'.*'Bern' in row 1"),
        ({"town": ["Oslo", None]}, "'town' must have a value.*none in row 1 of the"),
        ({"age": [1.0, None], "town": ["Oslo"] * 2}, "'age' must have a value in each"),
        ({"age": ["x", "y"], "town": ["Oslo"] * 2}, "'age' must hold numbers, as in"),
        ({}, "must have a column 'town'"),
    ]:
        with pytest.raises(ValueError, match=message):
            strict.raw({**row, **change})
    # A graph has no pandas, but the same checks.
    run = tf.function(strict.inputs, input_signature=[strict.x_spec])
    good = {"age": [1.0], "gdp": [1.0], "member": [1.0], "town": ["Oslo"]}
    assert run(good).shape == (1, 5)
    for change, message in [
        ({"town": ["Bern"]}, r"Column `town` must hold a value.*\[Bern\] \[in row"),
        ({"gdp": [float("nan")]}, r"Column `gdp` must hold a number.*\[0\]"),
    ]:
        with pytest.raises(tf.errors.InvalidArgumentError, match=message):
            run({**good, **change})


def test_what_cannot_be_fitted_is_refused_with_the_remedy():
    for change, message in [
        ({"age": 3.0}, "'age' must vary.*3.0 in all 8 rows. Leave the column out"),
        ({"town": "Oslo"}, "'town' must vary.*'Oslo' in all"),
        ({"life": 1.0}, "'life' must vary"),
        (
            {"age": 1.7e9 + np.arange(8)},
            r"'age' .*float32 can tell apart.*df\['age'\] -",
        ),
    ]:
        with pytest.raises(ValueError, match=message):
            TablePreparation.fit(table(frame().assign(**change)))
    for target in (["life", "wet"], ["town", "wet"]):
        made = table(
            frame().assign(town=list("ABABABAB")), target=target, inputs=["age"]
        )
        with pytest.raises(ValueError, match="columns of one kind"):
            TablePreparation.fit(made)


def test_other_tasks_must_fit():
    preparation = TablePreparation.fit(table())
    with pytest.raises(ValueError, match="must have the column 'gdp'"):
        table(inputs=["age"]).prepared_by(preparation)
    other = table(frame().assign(town=["Bern"] * 8))
    with pytest.raises(ValueError, match=r"'Bern' in row 0 .*\(task 'a'\), and 7 more"):
        other.prepared_by(preparation)
    with pytest.raises(ValueError, match="'life' must hold numbers"):
        table(frame().assign(life="old")).prepared_by(preparation)
    classes = table(
        frame().assign(town=list("ABABABAB")), target="town", inputs=["age"]
    )
    fitted = TablePreparation.fit(classes)
    wrong = table(frame().assign(town=list("ABABABAC")), target="town", inputs=["age"])
    with pytest.raises(ValueError, match="'C' in row 7"):
        wrong.prepared_by(fitted)

"""Files that learn from raw columns and from several inputs."""

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from helpers import multi_input

import maml_keras as mk
from maml_keras.export.learner_formats import LEARNER_FORMATS

pytestmark = pytest.mark.journey

pytest.importorskip("onnxruntime")
pytest.importorskip("tf2onnx")
pytest.importorskip("ai_edge_litert")

SUFFIXES = [".onnx", ".tflite"]
HOW = {"steps": np.int32(2), "learning_rate": np.float32(0.05)}


def frame():
    """Flats in towns; some have no known floor area, and each has a number of rooms."""
    generator = np.random.default_rng(0)
    town = np.repeat(np.arange(12), 9)
    area = generator.normal(30.0, 7.0, len(town))
    rooms = generator.integers(1, 4, len(town))
    price = 500.0 + 20.0 * town + 5.0 * area + 60.0 * rooms
    area[generator.random(len(town)) < 0.1] = np.nan
    kind = np.where(rooms > 2, "house", "flat")
    return pd.DataFrame(
        {"town": town, "area": area, "rooms": rooms, "kind": kind, "price": price}
    )


def exported(path, inputs):
    table = mk.data.from_table(
        frame(), task="town", inputs=inputs, target="price", missing="mean"
    )
    train, _, _ = mk.data.split_tasks(table, train=8, validation=0, test=4)
    preparation = train.preparation
    network = keras.Sequential(
        [
            keras.Input([preparation.num_features]),
            keras.layers.Dense(4, activation="tanh"),
            keras.layers.Dense(1),
        ]
    )
    inner = mk.InnerLoop("mse", mk.SGD(0.05), steps=2)
    maml = mk.MAML(network, inner, preparation=preparation)
    return maml.export(path, verbose=0)


@pytest.fixture(scope="module")
def export(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tables") / "saved"
    return exported(folder, ["area", "rooms"])


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_scaling_and_missing_values_are_in_the_file(export, suffix, tmp_path):
    done = mk.convert(export, tmp_path / f"learner{suffix}", adapt=True)
    run = LEARNER_FORMATS[done.format].open(done.paths[-1])
    rows = frame()[frame().town == 11]
    assert rows.area.isna().any()
    saved = tf.saved_model.load(export)
    structure = saved.adapt_and_predict.concrete_functions[0].structured_input_signature
    specs = tf.nest.flatten(structure)
    columns = {"y": "price", "area": "area", "rooms": "rooms"}
    task = {
        spec.name: rows[columns[spec.name.split("_")[-1]]].to_numpy("float32")
        for spec in specs
        if spec.shape.rank
    }
    task["support_y"] = task["support_y"][:, None]
    arguments = [tf.constant({**task, **HOW}[spec.name], spec.dtype) for spec in specs]
    positional, _ = tf.nest.pack_sequence_as(structure, arguments)
    expected = tf.nest.flatten(saved.adapt_and_predict(*positional))[0].numpy()
    found = next(iter(run("adapt_and_predict", **task, **HOW).values()))
    # The unit is that of the table: prices of some 800.
    assert 400 < np.mean(found) < 1200
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_categories_of_text_are_refused_by_name(suffix, tmp_path):
    export = exported(tmp_path / "saved", ["area", "kind"])
    with pytest.raises(ValueError, match=r"cannot prepare text.* 'support_x_kind'"):
        mk.convert(export, tmp_path / f"learner{suffix}", adapt=True)
    assert not list(tmp_path.glob("learner*"))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_inputs_in_a_dict_have_names_in_the_file(suffix, tmp_path):
    inner = mk.InnerLoop("mse", mk.SGD(0.05), steps=2)
    source = mk.MAML(multi_input(), inner)
    done = mk.convert(source, tmp_path / f"learner{suffix}", adapt=True)
    run = LEARNER_FORMATS[done.format].open(done.paths[-1])
    generator = np.random.default_rng(0)

    def draw(*shape):
        return generator.normal(size=shape).astype("float32")

    x, query = ({"a": draw(n, 3), "b": draw(n, 2)} for n in (6, 4))
    y = draw(6, 2)
    named = {f"support_x_{key}": value for key, value in x.items()}
    named |= {f"query_x_{key}": value for key, value in query.items()}
    found = run("adapt_and_predict", **named, support_y=y, **HOW)["predictions"]
    tuned = source.adapt(x, y, steps=2)
    np.testing.assert_allclose(found, tuned(query), rtol=1e-4, atol=1e-5)

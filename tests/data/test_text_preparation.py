"""`TextPreparation`: strings in, with the tokens that training saw."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import maml_keras as mk
from maml_keras.data.preparation import differ

TEXTS = ["rain and wind", "a late goal", "more wind and rain", "the goal counts"] * 15
TOPICS = ["weather", "sport"] * 30


def words():
    layer = keras.layers.TextVectorization()
    layer.adapt(TEXTS)
    return layer


def pool():
    return mk.data.from_series(TEXTS, TOPICS, lookup=words())


def test_strings_become_the_tokens_of_the_pool():
    preparation = mk.data.TextPreparation(words())
    by_topic = sorted(range(60), key=lambda i: TOPICS[i])
    found = preparation.inputs(tf.constant([TEXTS[i] for i in by_topic]))
    np.testing.assert_array_equal(found, pool().examples)
    again = mk.data.TextPreparation.from_config(preparation.get_config())
    assert not differ(again, preparation)
    one, other = (p.inputs(tf.constant(["wind"])) for p in (again, preparation))
    np.testing.assert_array_equal(one, other)
    prepared = pool().prepared_by(preparation)
    one, other = (
        mk.data.NWayKShot(p, ways=2, shots=1, queries=2).sample([0, 1])[0]["query_x"]
        for p in (prepared, pool())
    )
    np.testing.assert_array_equal(one, other)


def test_what_cannot_be_looked_up_is_refused():
    preparation = mk.data.TextPreparation(words())
    with pytest.raises(tf.errors.InvalidArgumentError, match="a word in each row"):
        preparation.inputs(tf.constant(["wind", ""]))
    with pytest.raises(ValueError, match="must be strings.*int64 of shape"):
        preparation.raw([[3, 4]])
    tokens = mk.data.from_series([[1, 99], [2, 3]], [0, 1])
    with pytest.raises(ValueError, match="tokens below 11 .*the same layer"):
        tokens.prepared_by(preparation)
    with pytest.raises(ValueError, match="not fitted.*adapt"):
        mk.data.TextPreparation(keras.layers.TextVectorization())
    own = keras.layers.TextVectorization(standardize=tf.strings.lower)
    own.adapt(TEXTS)
    with pytest.raises(ValueError, match="a function of your own for standardize"):
        mk.data.TextPreparation(own)
    with pytest.raises(ValueError, match="must be a keras.layers.TextVectorization"):
        mk.data.TextPreparation(keras.layers.StringLookup())


@pytest.mark.journey
def test_an_export_takes_strings(tmp_path):
    lookup = words()
    own = pool().prepared_by(mk.data.TextPreparation(lookup))
    keras.utils.set_random_seed(0)
    network = keras.Sequential(
        [
            keras.Input([None], dtype="int32"),
            keras.layers.Embedding(lookup.vocabulary_size(), 4, mask_zero=True),
            keras.layers.GlobalAveragePooling1D(),
            keras.layers.Dense(2),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    maml = mk.MAML(network, mk.InnerLoop(loss, mk.SGD(0.1), steps=2))
    maml.compile("adam", run_eagerly=True)
    tasks = mk.data.NWayKShot(own, ways=2, shots=1, queries=2)
    maml.fit(
        mk.data.episodes(tasks, batch_size=2, seed=1), steps_per_epoch=1, verbose=0
    )
    known, labels = ["rain", "goal"], np.array([0, 1], np.int32)
    asked = ["wind and rain", "late"]
    maml.export(tmp_path / "saved", verbose=0)
    saved = tf.saved_model.load(tmp_path / "saved")
    found = saved.adapt_and_predict(tf.constant(known), labels, tf.constant(asked))
    # The arrays of a task have one length, here by padding.
    tokens = tf.cast(lookup([*known, *asked]), tf.int32)
    task = {
        "support_x": tokens[None, :2],
        "support_y": labels[None],
        "query_x": tokens[None, 2:],
    }
    expected = maml(task, training=False)[0]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    tuned = mk.fine_tune(tmp_path / "saved", known, labels, verbose=0)
    np.testing.assert_allclose(
        tuned.predict(np.array(asked, object), verbose=0),
        expected,
        rtol=1e-4,
        atol=1e-6,
    )
    adapted = maml.adapt(known, labels)
    np.testing.assert_allclose(
        adapted(tf.constant(asked)), expected, rtol=1e-4, atol=1e-6
    )
    maml.save(tmp_path / "m.keras")
    again = keras.saving.load_model(tmp_path / "m.keras")
    assert not differ(again.preparation, maml.preparation)

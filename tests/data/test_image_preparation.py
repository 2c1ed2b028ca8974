"""`ImagePreparation`: raw images in, with the numbers that training saw."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import maml_keras as mk
from maml_keras.data.preparation import preparation_of


def pool(classes=6, shape=(4, 4, 3), each=4):
    generator = np.random.default_rng(0)
    x = generator.integers(0, [60, 120, 255], [classes * each, *shape], np.uint8)
    return mk.data.from_arrays(x, np.repeat(np.arange(classes), each))


def tasks(part, **changes):
    return mk.data.NWayKShot(part, **{"ways": 2, "shots": 1, "queries": 2, **changes})


def test_moments_are_those_of_numpy_over_each_channel():
    own = pool()
    fitted = mk.data.ImagePreparation.fit(own)
    scaled = own.examples / 255.0
    np.testing.assert_allclose(fitted.mean, scaled.mean(axis=(0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(fitted.variance, scaled.var(axis=(0, 1, 2)), rtol=1e-9)
    expected = (scaled - fitted.mean) / np.sqrt(fitted.variance)
    found = fitted.inputs(own.examples)
    np.testing.assert_allclose(found, expected, atol=1e-5)  # f32
    # Episodes hold these rows.
    task, _ = tasks(own.prepared_by(fitted)).sample_many([0, 1], 20)
    rows = task["query_x"].numpy().reshape(-1, 48)
    distance = abs(rows[:, None] - expected.reshape(1, -1, 48)).max(axis=-1)
    assert distance.min(axis=1).max() < 1e-5


def test_scaling_alone_gives_the_episodes_of_the_pool():
    plain = mk.data.ImagePreparation([4, 4, 3])
    with_it, without = (
        tasks(p).sample([0, 1])[0]["support_x"]
        for p in (pool().prepared_by(plain), pool())
    )
    np.testing.assert_array_equal(with_it, without)
    np.testing.assert_allclose(
        plain.inputs(pool().examples), pool().examples / 255.0, rtol=1e-6
    )


def test_parts_wrappers_and_fingerprints_know_the_preparation(tmp_path):
    fitted = mk.data.ImagePreparation.fit(pool())
    own = pool().prepared_by(fitted)
    train, _, test = mk.data.split_classes(own, train=4, validation=0, test=2)
    wrapped = mk.data.Rotated(tasks(train))
    assert preparation_of(wrapped) is preparation_of(tasks(test)) is fitted
    assert own.fingerprint() != pool().fingerprint()
    again = mk.data.ImagePreparation.from_config(fitted.get_config())
    assert own.fingerprint() == pool().prepared_by(again).fingerprint()
    mk.data.to_disk(pool(), tmp_path / "pool", verbose=0)
    disk = mk.data.open_pool(tmp_path / "pool")
    kept = mk.data.ImagePreparation.fit(disk)
    assert kept.get_config() == fitted.get_config()
    with pytest.raises(ValueError, match="episodes with and without one.*prepared_by"):
        preparation_of(mk.data.Mixture([tasks(own), tasks(pool())]))


def test_what_cannot_be_prepared_is_refused():
    preparation = mk.data.ImagePreparation
    floats = mk.data.from_arrays(np.ones([4, 2, 2, 1], np.float32), [0, 0, 1, 1])
    with pytest.raises(ValueError, match="must hold images of bytes.*Scale other"):
        preparation.fit(floats)
    flat = mk.data.from_arrays(np.ones([4, 2, 2, 1], np.uint8), [0, 0, 1, 1])
    with pytest.raises(ValueError, match="must vary.*everywhere in channel 0"):
        preparation.fit(flat)
    with pytest.raises(ValueError, match=r"the shape \(8, 8, 3\) .*\(4, 4, 3\)"):
        pool().prepared_by(preparation([8, 8, 3]))
    with pytest.raises(ValueError, match="a number for each of 3 channels"):
        preparation([4, 4, 3], mean=[0.5])
    with pytest.raises(ValueError, match="height, width, channels"):
        preparation([4, 4])
    with pytest.raises(ValueError, match=r"must be images of bytes.*float64 of shape"):
        preparation([4, 4, 3]).raw(np.zeros([1, 4, 4, 3]))


@pytest.fixture(scope="module")
def parts():
    own = pool(classes=8)
    train, _, test = mk.data.split_classes(own, train=5, validation=0, test=3)
    fitted = mk.data.ImagePreparation.fit(train)
    return train.prepared_by(fitted), test.prepared_by(fitted)


def trained(parts):
    keras.utils.set_random_seed(0)
    layers = [keras.Input([4, 4, 3]), keras.layers.Flatten(), keras.layers.Dense(2)]
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    maml = mk.MAML(keras.Sequential(layers), mk.InnerLoop(loss, mk.SGD(0.1), steps=2))
    maml.compile("adam", run_eagerly=True)
    episodes = mk.data.episodes(tasks(parts[0]), batch_size=2, seed=1)
    maml.fit(episodes, steps_per_epoch=1, verbose=0)
    return maml


@pytest.mark.journey
@pytest.mark.usefixtures("tasks_in_a_loop", "without_graphs")
def test_a_model_adapts_to_raw_images_and_refuses_others(parts, tmp_path):
    maml = trained(parts)
    images = parts[1].examples
    x, y = images[[0, 5, 9]], np.array([0, 1, 1])
    prepared = maml.preparation.inputs(x)
    raw, ready = maml.adapt(x, y), maml.adapt(prepared, y)
    for tuned in (raw, ready):
        assert tuned.input.dtype == "uint8"
    np.testing.assert_allclose(raw(images), ready(images), rtol=1e-5, atol=1e-6)
    maml.save(tmp_path / "m.keras")
    again = keras.saving.load_model(tmp_path / "m.keras")
    assert again.preparation.get_config() == maml.preparation.get_config()
    unprepared = mk.data.NWayKShot(pool(), ways=2, shots=1, queries=2)
    with pytest.raises(ValueError, match="a pool without a preparation.*prepared_by"):
        mk.evaluate_episodes(
            maml, mk.data.episodes(unprepared, batch_size=2, seed=1, num_episodes=2)
        )


@pytest.mark.journey
def test_an_export_takes_raw_images_and_a_folder(parts, tmp_path):
    maml = trained(parts)
    maml.export(tmp_path / "saved", verbose=0)
    saved = tf.saved_model.load(tmp_path / "saved")
    images = parts[1].examples
    x, y = images[[0, 5, 9]], np.array([0, 1, 1], np.int32)
    task = {
        "support_x": maml.preparation.inputs(x)[None],
        "support_y": y[None],
        "query_x": maml.preparation.inputs(images)[None],
    }
    expected = maml(task, training=False)[0]
    found = saved.adapt_and_predict(x, y, images)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    tuned = mk.fine_tune(tmp_path / "saved", x, y, verbose=0)
    np.testing.assert_allclose(
        tuned.predict(images, verbose=0), expected, rtol=1e-4, atol=1e-5
    )
    with pytest.raises(ValueError, match="must be images of bytes"):
        mk.fine_tune(tmp_path / "saved", x / 255.0, y)
    for label, name in enumerate("ab"):
        folder = tmp_path / "folders" / name
        folder.mkdir(parents=True)
        for i in range(2):
            file = folder / f"{i}.png"
            keras.utils.save_img(file, images[4 * label + i], scale=False)
    shown = mk.export.adapt_file(
        tmp_path / "saved", tmp_path / "folders", steps=2, verbose=0
    )
    order = images[[0, 1, 4, 5]], np.array([0, 0, 1, 1], np.int32)
    right = np.argmax(saved.adapt_and_predict(*order, order[0], 2), -1) == order[1]
    assert f"{right.mean():.4g}  accuracy" in shown

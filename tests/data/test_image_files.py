"""Images that stay in their files give the episodes of images in memory."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import maml_keras as mk
from maml_keras import data
from maml_keras.data import near_copies


@pytest.fixture
def folder(tmp_path):
    """Two groups of two classes of three images, JPEG beside PNG, in a folder."""
    generator = np.random.default_rng(0)
    for group in ("greek", "latin"):
        for name in ("a", "b"):
            for i in range(3):
                path = tmp_path / "images" / group / name / f"{i}.png"
                path = path.with_suffix(".jpg") if i == 2 else path
                path.parent.mkdir(parents=True, exist_ok=True)
                image = generator.integers(0, 256, [6, 6, 3], np.uint8)
                keras.utils.save_img(path, image, scale=False)
    return tmp_path / "images"


@pytest.mark.parametrize("size", [None, (4, 5)])
@pytest.mark.parametrize("options", [{"lazy": True}, {"cache": "kept"}])
def test_lazy_and_cached_images_are_those_in_memory(
    folder, size, options, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    held = data.from_folder(folder, groups="parent", size=size)
    assert held.class_names == ("greek/a", "greek/b", "latin/a", "latin/b")
    assert held.groups == ("greek", "greek", "latin", "latin")
    other = data.from_folder(folder, groups="parent", size=size, **options)
    assert repr(other) == repr(held)
    np.testing.assert_array_equal(other.examples, held.examples)
    parts = [
        data.split_classes(p, train=1, validation=0, test=1, by="group")
        for p in (held, other)
    ]
    drawn = []
    for train, _, _ in parts:
        tasks = data.NWayKShot(train, ways=2, shots=1, queries=2)
        batches = data.episodes(tasks, batch_size=3, seed=1, num_episodes=6)
        drawn.append(list(batches.as_numpy_iterator()))
    for (task, query_y), (task_2, query_y_2) in zip(*drawn, strict=True):
        np.testing.assert_array_equal(query_y, query_y_2)
        for key in task:
            np.testing.assert_array_equal(task[key], task_2[key])


def test_a_lazy_pool_opens_one_file_and_episodes_open_theirs(folder, monkeypatch):
    opened = []
    read = tf.io.read_file
    monkeypatch.setattr(
        tf.io, "read_file", lambda name: (opened.append(name), read(name))[1]
    )
    pool = data.from_folder(folder, groups="parent", lazy=True)
    part = pool.select([0, 2]).drop_smaller_than(2)
    assert len(pool.fingerprint()) == 64
    assert len(opened) == 1
    data.NWayKShot(part, ways=2, shots=1, queries=1).sample([0, 1])
    assert len(opened) == 5


def test_a_cache_holds_until_a_file_changes(folder, tmp_path):
    def get():
        return data.from_folder(folder, groups="parent", cache=tmp_path / "kept")

    first = get().fingerprint()
    assert get().fingerprint() == first
    assert len(list((tmp_path / "kept").iterdir())) == 1
    image = np.zeros([6, 6, 3], np.uint8)
    keras.utils.save_img(folder / "greek" / "a" / "0.png", image, scale=False)
    assert get().fingerprint() != first
    assert not get().examples[[0]].any()


def test_a_damaged_image_is_named_when_it_is_needed(folder):
    (folder / "latin" / "b" / "1.png").write_bytes(b"no image")
    pool = data.from_folder(folder, groups="parent", lazy=True)
    with pytest.raises(ValueError, match=r"b/1.png cannot be read as an image"):
        np.asarray(pool.examples)
    tasks = data.NWayKShot(pool, ways=4, shots=1, queries=2)
    with pytest.raises(tf.errors.OpError, match=r"b/1.png cannot be read as an image"):
        next(iter(data.episodes(tasks, batch_size=1, seed=1)))


def test_training_and_audits_name_a_damaged_image(folder):
    (folder / "latin" / "b" / "1.png").write_bytes(b"no image")
    pool = data.from_folder(folder, groups="parent", lazy=True)
    tasks = data.NWayKShot(pool, ways=4, shots=1, queries=2)
    batches = data.episodes(tasks, batch_size=1, seed=1)
    layers = [keras.layers.Flatten(), keras.layers.Dense(4)]
    model = keras.Sequential([keras.Input([6, 6, 3]), *layers])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    maml = mk.MAML(model, mk.InnerLoop(loss, mk.SGD(0.1)))
    maml.compile("adam", run_eagerly=True)
    for use in (
        lambda: maml.fit(batches, steps_per_epoch=1, verbose=0),
        lambda: maml.predict(batches.take(1), verbose=0),
        lambda: mk.evaluate_episodes(maml, batches, num_tasks=1, verbose=0),
        lambda: data.audit(tasks, num_tasks=2),
    ):
        # The sentence alone, without the names of TensorFlow's graph.
        with pytest.raises(ValueError, match=r"^\S+b/1.png cannot be read as an image"):
            use()


def test_an_audit_decodes_no_more_images_than_it_says(folder, monkeypatch):
    size = (8, 8)  # Smaller ones are no pictures.
    pool = data.from_folder(folder, groups="parent", size=size, lazy=True)
    parts = data.split_classes(pool, train=2, validation=0, test=2)
    monkeypatch.setattr(near_copies, "MOST_DECODED", 4)
    report = data.audit(parts[0], test=parts[2])
    [note] = report.findings
    assert "4 of 6 of train and 4 of 6 of test" in str(note)


def test_an_image_of_another_size_is_named(folder):
    path = folder / "latin" / "b" / "1.png"
    keras.utils.save_img(path, np.zeros([7, 6, 3], np.uint8), scale=False)
    pool = data.from_folder(folder, groups="parent", lazy=True)
    with pytest.raises(ValueError, match=r"`size` must be given.*b/1.png.*\(7, 6, 3\)"):
        np.asarray(pool.examples)


def test_copies_of_files_are_found_in_a_split(folder):
    original = folder / "greek" / "a" / "1.png"
    (folder / "latin" / "a" / "1.png").write_bytes(original.read_bytes())
    pool = data.from_folder(folder, groups="parent", lazy=True)
    with pytest.warns(UserWarning, match="greek/a.*latin/a"):
        data.split_classes(
            pool, train=["greek"], validation=0, test=["latin"], by="group"
        )

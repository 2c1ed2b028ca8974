"""Bad input: one line that names the file, row, column or class, and the remedy."""

import re

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

import maml_keras as mk

TABLE = {
    "shop": list("aaabbbccc"),
    "size": [1.0, 2.0, 4.0, 3.0, 5.0, 6.0, 2.0, 3.0, 9.0],
    "kind": list("xyxyxyxyx"),
    "sales": [1.0, 3.0, 2.0, 5.0, 4.0, 7.0, 1.0, 2.0, 8.0],
}


def images(folder, counts, size=(6, 6)):
    """A folder of images for each class, of given numbers of images."""
    for name, count in counts.items():
        (folder / name).mkdir(parents=True)
        for i in range(count):
            pixels = np.full([*size, 1], 10 * i, np.uint8)
            keras.utils.save_img(folder / name / f"{i}.png", pixels, scale=False)
    return folder


def corrupt_image(folder):
    images(folder, {"rose": 2})
    (folder / "rose/1.png").write_bytes(b"no image")
    mk.data.from_folder(folder)


def class_of_one_image(folder):
    pool = mk.data.from_folder(images(folder, {"rose": 3, "tulip": 1}))
    mk.data.NWayKShot(pool, ways=2, shots=1, queries=1)


def fewer_classes_than_ways(folder):
    pool = mk.data.from_folder(images(folder, {"rose": 3, "tulip": 3}))
    mk.data.NWayKShot(pool, ways=5, shots=1, queries=1)


def mixed_sizes(folder):
    images(folder, {"rose": 1})
    images(folder, {"tulip": 1}, size=(6, 7))
    mk.data.from_folder(folder)


def empty_folder(folder):
    mk.data.from_folder(folder)


def tabular(columns=None, **options):
    how = {"task": "shop", "inputs": ["size", "kind"], "target": "sales", **options}
    return mk.data.from_table(TABLE if columns is None else columns, **how)


def task_with_too_few_rows(folder):
    train, *_ = mk.data.split_tasks(tabular(), train=2, validation=0, test=1)
    mk.data.FewExamples(train, shots=2, queries=2)


def missing_column(folder):
    pd.DataFrame(TABLE).to_csv(folder / "shops.csv", index=False)
    tabular(folder / "shops.csv", inputs=["sizes"])


def target_of_nan(folder):
    frame = pd.DataFrame(TABLE)
    frame.loc[4, "sales"] = np.nan
    frame.to_csv(folder / "shops.csv", index=False)
    tabular(folder / "shops.csv")


def unknown_category(folder):
    train, *_ = mk.data.split_tasks(tabular(), train=2, validation=0, test=1)
    new = pd.DataFrame({"size": [1.0, 2.0], "kind": ["x", "tent"]})
    new.to_csv(folder / "asked.csv", index=False)
    train.preparation.raw(folder / "asked.csv")


def unknown_category_in_the_graph(folder):
    train, *_ = mk.data.split_tasks(tabular(), train=2, validation=0, test=1)
    column = {"size": tf.constant([1.0, 2.0]), "kind": tf.constant(["x", "tent"])}
    train.preparation.inputs(column)


def label_strings(folder):
    task = {"support_x": np.zeros([1, 4, 2]), "query_x": np.zeros([1, 4, 2])}
    task["support_y"] = np.array([["cat", "dog", "cat", "dog"]])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model = keras.Sequential([keras.Input([2]), keras.layers.Dense(2)])
    maml = mk.MAML(model, mk.InnerLoop(loss, mk.SGD(0.1)))
    maml.compile("sgd", run_eagerly=True)
    maml.fit(task, task["support_y"], verbose=0)


def object_array(folder):
    mk.data.from_arrays(np.array([1.0, 2.0, "three"], object), [0, 0, 1])


def ragged_arrays(folder):
    mk.data.from_arrays([[1.0, 2.0], [1.0]], [0, 1])


def no_network(folder):
    import tensorflow_datasets as tfds

    def fails(self, **options):
        raise ConnectionError("no route to host")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", fails)
        mk.data.omniglot(split="train", data_dir=str(folder), download=True)


CASES = {
    corrupt_image: r"rose/1\.png cannot be read as an image",
    class_of_one_image: r"class 'tulip' has 1 .*drop_smaller_than\(2\)",
    fewer_classes_than_ways: r"ways=5, but the pool has 2 classes\. Lower `ways`",
    mixed_sizes: r"tulip/0\.png of shape \(6, 7, 3\).*Pass e\.g\. size=",
    empty_folder: r"holds no class folder",
    task_with_too_few_rows: r"'[abc]' \(3\).*drop_smaller_than\(4\)",
    missing_column: r"shops\.csv must have a column 'sizes'.*mean 'size'",
    target_of_nan: r"'sales' of shops\.csv .*first in row 4\. Leave these rows out",
    unknown_category: r"'kind' .*'tent' in row 1 of asked\.csv.*unknown='zeros'",
    unknown_category_in_the_graph: r"`kind` must hold .*tent.*in row.*1",
    label_strings: r"`support_y` .*class numbers.*",
    object_array: r"'three' in row 2. Encode the data first",
    ragged_arrays: r"shapes \(1,\), \(2,\).*from_series",
    no_network: r"omniglot.*no route to host.*Check the network, or point",
}
ERRORS = (ValueError, FileNotFoundError, tf.errors.InvalidArgumentError)


@pytest.mark.parametrize("bad", CASES, ids=lambda bad: bad.__name__)
def test_one_line_names_the_culprit_and_the_remedy(bad, tmp_path):
    with pytest.raises((*ERRORS, mk.data.DatasetNotFoundError)) as raised:
        bad(tmp_path)
    message = getattr(raised.value, "message", None) or str(raised.value)
    assert re.search(CASES[bad], message, re.DOTALL), message
    if bad is not unknown_category_in_the_graph:  # TensorFlow writes its own lines.
        assert "\n" not in message

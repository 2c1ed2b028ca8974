"""`audit`: each planted fault is found by its name, and good data is clean."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import maml_keras as mk
from maml_keras.data import NWayKShot, Pool, Sinusoid, TaskFamily, audit, from_arrays
from tests.data.test_tfds import needs_omniglot

GENERATOR = np.random.default_rng(0)


def images(classes, each=8, size=12):
    """Smooth random images of bytes `[n, size, size, 1]` and their labels."""
    coarse = GENERATOR.random([classes * each, 4, 4, 1])
    x = np.kron(coarse, np.ones([1, size // 4, size // 4, 1]))
    return (200 * x + 20).astype("uint8"), np.repeat(np.arange(classes), each)


def pools(**changed):
    """Two sound pools of other classes; `changed` replaces the images of a part."""
    found = {}
    for name, prefix in (("train", "a"), ("test", "b")):
        x, y = images(12)
        x = changed.get(name, lambda x: x)(x)
        names = [f"{prefix}{c}" for c in range(12)]
        found[name] = from_arrays(x, y, class_names=names)
    return found


def text(report):
    """The findings without the line breaks of the table."""
    return " ".join(map(str, report.findings))


def checks(report):
    return {(f.severity, f.check) for f in report.findings}


def test_sound_pools_families_and_batches_are_clean():
    parts = pools()
    report = audit(parts["train"], test=parts["test"])
    assert report.is_clean, str(report)
    report.raise_if_leaking()
    assert "Nothing was found." in str(report)
    tasks = NWayKShot(parts["train"], ways=5, shots=1, queries=5)
    stream = mk.data.episodes(tasks, batch_size=8, seed=1)
    assert audit(tasks).is_clean
    assert audit(stream, test=parts["test"], num_tasks=64).is_clean
    assert audit(iter([next(iter(stream))]), num_tasks=8).is_clean
    assert audit(Sinusoid(), Sinusoid()).is_clean
    drawn = NWayKShot(parts["train"], ways=(2, 5), shots=(1, 4), queries=3)
    assert audit(drawn).is_clean


def test_a_class_under_another_name_is_a_leak():
    parts = pools()
    x = parts["test"].examples.copy()
    x[:8] = parts["train"].examples[16:24]
    test = from_arrays(x, np.repeat(np.arange(12), 8))
    report = audit(parts["train"], test=test)
    assert checks(report) == {("leak", "shared classes")}
    with pytest.raises(ValueError, match="class 'a2' of train and class '0' of test"):
        report.raise_if_leaking()
    assert "leak     shared classes" in str(report)


def test_a_few_common_rows_are_found():
    parts = pools()
    x = parts["test"].examples.copy()
    x[[3, 50]] = parts["train"].examples[[17, 60]]
    report = audit(parts["train"], test=from_arrays(x, np.repeat(np.arange(12), 8)))
    assert checks(report) == {("leak", "shared rows")}
    assert "2 different examples are in train and in test" in str(report.findings[0])


def test_near_copies_of_images_are_found():
    parts = pools()
    x = parts["test"].examples.astype("float32")
    noise = GENERATOR.normal(size=x[:4].shape)
    x[:4] = 0.8 * parts["train"].examples[:4] + 20 + noise  # Darker, and compressed.
    test = from_arrays(x.astype("uint8"), np.repeat(np.arange(12), 8))
    report = audit(parts["train"], test=test)
    assert checks(report) == {("leak", "near-copies")}
    assert "4 images of test are almost an image of train" in str(report.findings[0])


def test_copies_and_contradictions_within_a_part_are_found():
    x, y = images(12)
    x[1], x[20] = x[0], x[40]
    report = audit(from_arrays(x, y))
    assert checks(report) == {
        ("warning", "copies in a class"),
        ("warning", "two labels"),
    }
    assert "1 of 96 examples of train repeat another" in text(report)
    assert "in '2' and '5'" in text(report)


def test_classes_of_unequal_size_are_noted():
    x, _ = images(1, each=50)
    pool = Pool(x, counts=[3, 3, 44], class_names=["a", "b", "c"])
    report = audit(pool)
    assert checks(report) == {("note", "balance")}
    assert report.is_clean


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda x: x.astype("float32"), {("warning", "scale")}),
        (lambda x: x.astype("float32") / 255, set()),
    ],
)
def test_images_that_nothing_scales_are_found(change, expected):
    parts = pools(train=change, test=change)
    assert checks(audit(parts["train"], test=parts["test"])) == expected


def test_parts_of_another_scale_are_a_fault():
    parts = pools(train=lambda x: x / 255.0, test=lambda x: x * 1.0)
    report = audit(parts["train"], test=parts["test"])
    assert ("fault", "scale of parts") in checks(report)
    assert " times as far as those of train" in text(report)


def test_columns_of_unlike_size_are_found():
    x = GENERATOR.normal(size=[60, 3]) * [1.0, 5000.0, 0.0]
    report = audit(from_arrays(x, np.arange(60) % 6))
    assert checks(report) == {("warning", "scale"), ("note", "constant columns")}
    names = from_arrays(x[:, :1], np.arange(60) % 6, class_names=list("abcdef"))
    report = audit(names, test=names.select([0, 1]))
    assert ("warning", "shared class names") in checks(report)


class Planted(TaskFamily):
    """Tasks of five classes, with one fault."""

    def __init__(self, fault):
        self.fault = fault

    def sample(self, seed):
        y = tf.repeat(tf.range(5), 4)
        order = tf.argsort(tf.random.stateless_uniform([20], seed))
        name = tf.argsort(tf.random.stateless_uniform([5], tf.random.fold_in(seed, 1)))
        if self.fault == "position":
            order = tf.range(20)
        elif self.fault == "order":
            order, y = tf.range(20), tf.gather(name, y)
        else:
            y = tf.gather(name, y)
        x = tf.random.stateless_normal([20, 3], tf.random.fold_in(seed, 2))
        if self.fault == "few":
            x = tf.ones([20, 3]) * tf.range(3.0) * tf.cast(seed[0] % 3, tf.float32)
        if self.fault == "nan":
            x = tf.where(tf.range(20)[:, None] == 7, float("nan"), x)
        qx, qy = tf.gather(x, order), tf.gather(y, order)
        sy = tf.gather(tf.gather(name, tf.range(5)), tf.argsort(name))
        sx = tf.random.stateless_normal([5, 3], tf.random.fold_in(seed, 3))
        by = tf.argsort(tf.random.stateless_uniform([5], tf.random.fold_in(seed, 4)))
        if self.fault == "few":
            sx = x[:5]
        if self.fault == "support":
            sx = tf.concat([qx[:1], sx[1:]], axis=0)
        if self.fault == "missing":
            sy = tf.minimum(sy, 3)
        task = {"support_x": sx, "support_y": tf.gather(sy, by), "query_x": qx}
        return task, qy


FAULTS = {
    "none": None,
    "position": ("leak", "labels by position"),
    "order": ("warning", "order"),
    "nan": ("fault", "NaN"),
    "support": ("leak", "support in queries"),
    "missing": ("fault", "classes without support"),
    "few": ("warning", "few tasks"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_of_tasks_are_found(fault):
    found = checks(audit(Planted(fault)))
    expected = {FAULTS[fault]} - {None}
    assert found == expected if fault != "few" else found >= expected


@pytest.mark.parametrize("ways", [2, 20])
def test_a_few_tasks_that_look_sorted_are_chance(ways):
    x, y = images(2 * ways, each=4)
    tasks = NWayKShot(from_arrays(x, y), ways=ways, shots=1, queries=1)
    for num_tasks in (1, 2, 3):
        assert audit(tasks, num_tasks=num_tasks).leaks == ()


def test_twenty_sorted_tasks_of_five_classes_are_none():
    leaks = audit(Planted("position"), num_tasks=20).leaks
    assert {finding.check for finding in leaks} == {"labels by position"}


def test_a_family_with_few_tasks_and_a_majority_are_found():
    x, y = images(3, each=3)
    tasks = NWayKShot(from_arrays(x, y), ways=2, shots=1, queries=1)
    report = audit(tasks)
    assert checks(report) == {("warning", "few tasks")}
    assert "allows only 27 different support sets" in text(report)
    n = 100
    x = GENERATOR.normal(size=[8, n, 2])
    y = np.zeros([8, n], int)
    y[:, :2] = 1
    y = GENERATOR.permuted(y, axis=1)
    task = {"support_x": x + 1, "support_y": y, "query_x": x}
    assert ("warning", "balance") in checks(audit([(task, y)]))


def test_tables_share_no_tasks():
    data = {"shop": list("aabbcc"), "size": range(6), "sales": range(6)}
    table = mk.data.from_table(data, task="shop", inputs=["size"], target="sales")
    report = audit(table.select([0, 1]), test=table.select([1, 2]))
    assert checks(report) == {("leak", "shared task names")}


def test_several_inputs_and_outputs_are_looked_at():
    x = {"a": GENERATOR.normal(size=[8, 5, 2]), "b": GENERATOR.normal(size=[8, 5])}
    y = {"c": np.ones([8, 5]), "d": np.ones([8, 5])}
    task = {"support_x": x, "support_y": y, "query_x": x}
    assert audit([(task, y)]).is_clean
    x["b"][3, 2] = np.nan
    assert checks(audit([(task, y)])) == {("fault", "NaN")}


def test_other_data_is_refused():
    with pytest.raises(ValueError, match="`train` must be a Pool, a TaskTable"):
        audit(3)
    with pytest.raises(
        ValueError, match=r"`train` must hold batches \(task, query_y\)"
    ):
        audit([(np.zeros(3), np.zeros(3))])
    with pytest.raises(ValueError, match="`train` must hold at least one batch"):
        audit([])


@pytest.mark.slow
@needs_omniglot
def test_no_false_alarm_on_omniglot():
    pool = mk.data.omniglot(split="small1+small2")
    train, _, test = mk.data.split_classes(
        pool, train=0.6, validation=0, test=None, by="group"
    )
    report = audit(NWayKShot(train, ways=5, shots=1, queries=5), test=test)
    assert report.is_clean, str(report)


def test_no_false_alarm_on_digits():
    digits = pytest.importorskip("sklearn.datasets").load_digits()
    pool = from_arrays(digits.images[..., None], digits.target)
    train, test = pool.select(range(5)), pool.select(range(5, 10))
    report = audit(NWayKShot(train, ways=5, shots=1, queries=5), test=test)
    assert report.is_clean, str(report)


def fit(train, validation, **how):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model = keras.Sequential(
        [keras.Input([12, 12, 1]), keras.layers.Flatten(), keras.layers.Dense(2)]
    )
    maml = mk.MAML(model, mk.InnerLoop(loss, mk.SGD(0.1)), task_map="parallel")
    maml.compile("sgd", run_eagerly=True)
    sizes = {"ways": 2, "shots": 1, "queries": 1}
    streams = [
        mk.data.episodes(NWayKShot(p, **sizes), batch_size=2, seed=1, num_episodes=2)
        for p in (train, validation)
    ]
    maml.fit(streams[0], validation_data=streams[1], verbose=0, **how)


def test_fit_refuses_a_leak_unless_told():
    parts = pools()
    fit(parts["train"], parts["test"])
    shared = parts["train"].select([0, 1, 2])
    with pytest.raises(ValueError, match="are in train and in validation.*audit=False"):
        fit(parts["train"], shared)
    fit(parts["train"], shared, audit=False)

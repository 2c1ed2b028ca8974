"""Class numbers: the same tasks, with labels that mean the same class everywhere."""

import numpy as np
import pytest
import tensorflow as tf

import maml_keras as mk
from maml_keras.data.class_numbers import holds_classes


def pool(classes=6):
    # An image shows its class.
    x = np.arange(classes)[:, None, None, None, None] * np.ones([1, 4, 2, 2, 1])
    return mk.data.from_arrays(
        x.reshape(-1, 2, 2, 1).astype("float32"), np.repeat(np.arange(classes), 4)
    )


def tasks_of(family, count=16):
    return next(iter(mk.data.episodes(family, batch_size=count, seed=3)))


class Doubled(mk.data.TaskFamily):
    """Tasks of another family, with all inputs doubled."""

    def __init__(self, tasks):
        self.tasks = tasks

    def sample(self, seed):
        task, query_y = self.tasks.sample(seed)
        doubled = {key: 2.0 * task[key] for key in ("support_x", "query_x")}
        return {**task, **doubled}, query_y


class FromNumbers(mk.data.TaskFamily):
    """Tasks whose pool has numbers of examples; `fill` makes the examples."""

    def __init__(self, x, labels):
        numbers = mk.data.from_arrays(np.arange(len(x)), labels)
        self.tasks = mk.data.NWayKShot(numbers, ways=3, shots=1, queries=2)
        self.x = tf.constant(x)

    def plan(self, seed, count):
        return self.tasks.plan(seed, count)

    def fill(self, plan):
        task, query_y = self.tasks.fill(plan)
        for name in ("support_x", "query_x"):
            task[name] = tf.gather(self.x, task[name])
        return task, query_y

    def sample(self, seed):
        return tf.nest.map_structure(lambda t: t[0], self.fill(self.plan(seed, 1)))


class Permuted(mk.data.TaskFamily):
    """A wrapper that numbers classes by itself."""

    def __init__(self, tasks):
        self.tasks = tasks

    def sample(self, seed):
        task, query_y = self.tasks.sample(seed)
        return {**task, "support_y": 2 - task["support_y"] % 3}, 2 - query_y % 3


class Either(mk.data.TaskFamily):
    """Tasks of two families."""

    def __init__(self, one, other):
        self.both = one, other

    def sample(self, seed):
        return self.both[0].sample(seed)


PLAIN = mk.data.NWayKShot(pool(), ways=3, shots=1, queries=2)


@pytest.mark.parametrize(
    ("family", "scale"),
    [
        (PLAIN, 1.0),
        (Doubled(PLAIN), 2.0),
        (Doubled(Doubled(PLAIN)), 4.0),
        (FromNumbers(pool().examples, np.repeat(np.arange(6), 4)), 1.0),
    ],
    ids=["plain", "wrapper", "wrapper of a wrapper", "filled"],
)
def test_labels_are_the_classes_of_the_same_examples(family, scale):
    tasks, count = family.class_numbers()
    assert count == 6
    (task, query_y), (named, named_y) = map(tasks_of, (family, tasks))
    for key in ("support_x", "query_x"):
        np.testing.assert_array_equal(task[key], named[key])
    for x, y in ((named["support_x"], named["support_y"]), (named["query_x"], named_y)):
        np.testing.assert_array_equal(x[..., 0, 0, 0], scale * y.numpy())
    # The family itself still numbers the classes of each task.
    assert set(np.unique(query_y)) == {0, 1, 2}


def test_rotated_classes_are_further_classes():
    corner = np.zeros([12, 2, 2, 1], "float32")
    corner[:, 0, 0] = 1.0
    images = mk.data.from_arrays(corner, np.arange(12) // 4)
    family = mk.data.NWayKShot(images, ways=3, shots=1, queries=2, rotate_classes=True)
    tasks, count = family.class_numbers()
    assert count == 12
    task, _ = tasks_of(tasks)
    turned = np.stack([np.rot90(corner[0], r) for r in range(4)])
    np.testing.assert_array_equal(
        task["support_x"], turned[task["support_y"].numpy() // 3]
    )


@pytest.mark.parametrize(
    ("family", "came"),
    [
        (Permuted(PLAIN), "a family that changes the labels of `self.tasks`"),
        (Either(PLAIN, PLAIN), "a family that holds 0 families as attributes"),
        (mk.data.Sinusoid(), "a family that holds 0 families as attributes"),
    ],
    ids=["changes labels", "holds two", "regression"],
)
def test_a_family_whose_classes_are_not_known_is_refused(family, came):
    kind = type(family).__name__
    with pytest.raises(ValueError, match=f"`{kind}` must tell.*Received: {came}.*Give"):
        family.class_numbers()


def test_the_classes_of_a_table_are_the_same_in_every_task():
    data = {"shop": list("aaabbbccc"), "size": range(9), "kind": list("xyxyxyxyx")}

    def tasks(target):
        table = mk.data.from_table(data, task="shop", inputs=["size"], target=target)
        train, *_ = mk.data.split_tasks(table, train=2, validation=0, test=1)
        return mk.data.FewExamples(train, shots=1, queries=1)

    family = tasks("kind")
    assert family.class_numbers() == (family, 2)
    assert holds_classes(mk.data.Mixture([family, family]))
    data["price"] = range(9)
    assert not holds_classes(tasks("price"))
    with pytest.raises(ValueError, match="column of classes. Received: price.*categor"):
        tasks("price").class_numbers()

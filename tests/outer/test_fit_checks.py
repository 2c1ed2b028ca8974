"""`fit` and `adapt` refuse data that does not fit before any training."""

import math

import keras
import numpy as np
import pytest
from helpers import (
    assert_identical,
    batched,
    classification,
    compiled,
    dense,
    maml,
    regression,
)

from maml_keras import MAML, SGD, InnerLoop

SCCE = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


@pytest.mark.parametrize(
    ("labels", "advice"),
    [
        ([1, 2, 3, 1, 2, 3], r"labels 1\.\.3, .*Number the classes of each task"),
        ([0, 1, 4, 0, 1, 4], r"labels 0\.\.4, .*Number the classes of each task"),
        ([0, 1, 1, 0, 1, 0], r"labels 0\.\.1, .*or a model with 2 outputs"),
        ([0, 1, 2, 3, 0, 1], r"labels 0\.\.3, .*or a model with 4 outputs"),
    ],
)
def test_labels_that_do_not_fit_raise_with_advice(labels, advice):
    task, query_y = classification()
    task["support_y"] = np.tile(labels, [2, 1])
    learner = maml(dense(outputs=3), loss=SCCE)
    learner.compile("sgd")
    with pytest.raises(ValueError, match=advice):
        learner.fit(task, query_y, verbose=0)


def test_class_numbers_for_a_regression_loss_are_refused():
    task, query_y = classification()
    message = (
        r"\[tasks, examples, 3\] for the loss 'mean_squared_error'.*shape=\(2, 6\)"
    )
    with pytest.raises(ValueError, match=message):
        compiled(dense(outputs=3)).fit(task, query_y, verbose=0)


def test_query_targets_inside_the_dict_raise_with_their_place():
    task, query_y = regression()
    with pytest.raises(ValueError, match="no query_y. Put query_y beside the dict"):
        compiled().fit({**task, "query_y": query_y}, verbose=0)


def test_ignored_labels_do_not_count_as_classes():
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=-1)
    task, query_y = classification()
    task["support_y"][:, 0], query_y[:, 0] = -1, -1
    learner = compiled(dense(outputs=3), loss=loss)
    learner.fit(task, query_y, verbose=0)
    learner.adapt(task["support_x"][0], task["support_y"][0])
    task["support_y"][:, 0] = -2
    with pytest.raises(ValueError, match=r"labels 0\.\.2. Received: labels -2"):
        learner.fit(task, query_y, verbose=0)


def test_adapt_takes_lists_of_numbers():
    task, _ = regression()
    x, y = (np.asarray(task[key][0], "float32") for key in ("support_x", "support_y"))
    wrapped = maml(dense())
    got = wrapped.adapt(x.tolist(), y.tolist()).get_weights()
    assert_identical(got, wrapped.adapt(x, y).get_weights())


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (
            np.zeros([1, 4, 3]),
            r"for this model \(None, 3\).*take one: `support_x\[0\]`",
        ),
        (np.zeros([4, 3], np.uint8), r"`support_x` must be float32, scaled.*uint8"),
    ],
    ids=["a batch of tasks", "bytes"],
)
def test_adapt_refuses_inputs_that_are_not_a_support_set(x, message):
    with pytest.raises(ValueError, match=message):
        maml(dense()).adapt(x, np.zeros([*x.shape[:-1], 2]))


@pytest.mark.parametrize("entry", ["support_x", "support_y", "query_x", "query_y"])
def test_values_that_are_not_finite_are_refused_before_training(entry):
    task, query_y = regression()
    arrays = {**task, "query_y": query_y}
    arrays[entry][0, 0, 0] = math.nan
    model = compiled()
    with pytest.raises(ValueError, match=f"`{entry}` must be finite"):
        model.fit(task, query_y, verbose=0)
    assert int(model.episodes_seen) == 0


class Labels(keras.utils.PyDataset):
    def __len__(self):
        return 1

    def __getitem__(self, index):
        return classification(ways=3)


@pytest.mark.parametrize(
    "data",
    [
        lambda: classification(ways=3),
        lambda: [batched(classification(ways=3))],
        lambda: [Labels()],
    ],
    ids=["arrays", "dataset", "py_dataset"],
)
def test_labels_are_checked_before_training(data):
    model = compiled(dense(inputs=3, outputs=5), loss=SCCE)
    with pytest.raises(ValueError, match="as many ways.*5 outputs.*ways=5"):
        model.fit(*data(), verbose=0)
    assert int(model.episodes_seen) == 0


def test_pixel_labels_need_not_contain_every_class():
    # The head has three classes; the first batch contains two of them.
    x = keras.Input([4, 4, 1])
    model = keras.Model(x, keras.layers.Conv2D(3, 3, padding="same")(x))
    generator = np.random.default_rng(0)
    task = {
        "support_x": generator.random([2, 3, 4, 4, 1]).astype("float32"),
        "support_y": generator.integers(0, 2, [2, 3, 4, 4]),
        "query_x": generator.random([2, 2, 4, 4, 1]).astype("float32"),
    }
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    learner = MAML(model, InnerLoop(loss, SGD(0.1)))
    learner.compile("sgd")
    learner.fit(task, generator.integers(0, 2, [2, 2, 4, 4]), verbose=0)
    task["support_y"][0, 0, 0, 0] = 3
    with pytest.raises(ValueError, match=r"`support_y` must hold labels 0\.\.2"):
        learner.fit(task, task["support_y"][:, :2], verbose=0)


def test_one_task_of_scalar_rows_is_refused_as_a_batch():
    numbers = np.zeros([6, 1], "float32")
    task = {"support_x": numbers, "support_y": numbers, "query_x": numbers}
    learner = maml(dense(inputs=1, outputs=1))
    learner.compile("sgd")
    with pytest.raises(
        ValueError, match=r"\[tasks, examples, 1\].*\(6, 1\).*x\[None\]"
    ):
        learner.fit(task, numbers, verbose=0)


def test_a_dict_with_other_keys_is_refused():
    task, query_y = regression()
    with pytest.raises(ValueError, match="exactly the keys support_x"):
        compiled().fit({"x": task["support_x"], "y": task["support_y"]}, query_y)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (np.zeros([0, 3]), np.zeros([0, 2]), "at least one example"),
        (np.zeros([3, 3]), np.zeros([2, 2]), "as many examples"),
        (np.full([3, 3], np.nan), np.zeros([3, 2]), "`support_x` must be finite"),
        (np.zeros([3, 3]), np.full([3, 2], np.inf), "`support_y` must be finite"),
    ],
)
def test_adapt_refuses_a_support_set_that_does_not_fit(x, y, message):
    with pytest.raises(ValueError, match=message):
        maml(dense()).adapt(x.astype("float32"), y.astype("float32"))


def test_batch_without_query_targets_is_refused():
    task, query_y = regression()
    support = task["support_x"], task["support_y"]
    for x in (task, (support, (task["query_x"], query_y))):
        with pytest.raises(ValueError, match=r"pair \(task, query_y\).*no query_y"):
            compiled().fit(x, steps_per_epoch=1, verbose=0)


def test_adapt_refuses_labels_beyond_the_outputs():
    model = maml(dense(outputs=3), loss=SCCE)
    with pytest.raises(ValueError, match=r"labels 0\.\.2. Received: labels 1\.\.3"):
        model.adapt(np.zeros([2, 3], "float32"), np.array([1, 3]))


def test_adapt_takes_fewer_classes_than_outputs():
    model = maml(dense(outputs=3), loss=SCCE)
    model.adapt(np.zeros([2, 3], "float32"), np.array([0, 1]))

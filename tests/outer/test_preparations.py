"""A model keeps the preparation of its episodes, and answers in the original unit."""

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

import maml_keras as mk
from maml_keras.data.preparation import preparation_of

pytestmark = pytest.mark.usefixtures("tasks_in_a_loop", "without_graphs")


def frame():
    generator = np.random.default_rng(0)
    task = np.repeat(np.arange(12), 9)
    size = generator.normal(30.0, 7.0, len(task))
    kind = generator.choice(["house", "flat"], len(task))
    price = 500.0 + 20.0 * task + 5.0 * size + 60.0 * (kind == "house")
    return pd.DataFrame({"town": task, "size": size, "kind": kind, "price": price})


def split(data=None, **changes):
    settings = {"task": "town", "inputs": ["size", "kind"], "target": "price"}
    table = mk.data.from_table(frame() if data is None else data, **settings | changes)
    return mk.data.split_tasks(table, train=8, validation=0, test=4)


def family(table, **sizes):
    return mk.data.FewExamples(table, **{"shots": 4, "queries": 3, **sizes})


def model(preparation, loss="mse", **options):
    network = keras.Sequential(
        [
            keras.Input([preparation.num_features]),
            keras.layers.Dense(4, activation="tanh"),
            keras.layers.Dense(preparation.num_outputs),
        ]
    )
    inner = mk.InnerLoop(loss, mk.SGD(0.05))
    # The model of the module is made before the fixture `tasks_in_a_loop` begins.
    return mk.MAML(network, inner, task_map="parallel", **options)


def trained(table, metrics=("mae",), **options):
    maml = model(table.preparation, **options)
    # Eager, because tracing would take longer than these few steps.
    maml.compile("adam", metrics=list(metrics), run_eagerly=True)
    episodes = mk.data.episodes(family(table), batch_size=4, seed=1)
    maml.fit(episodes, steps_per_epoch=2, verbose=0)
    return maml


@pytest.fixture(scope="module")
def parts():
    return split()


@pytest.fixture(scope="module")
def maml(parts):
    return trained(parts[0])


def new_tasks(parts, **sizes):
    return mk.data.episodes(
        family(parts[2], **sizes), batch_size=2, seed=2, num_episodes=4
    )


def test_figures_are_in_the_original_unit(maml, parts):
    episodes = new_tasks(parts)
    targets = parts[0].preparation.target_columns
    # NumPy alone: predictions of the network, scaled back by mean and deviation.
    scaled = np.concatenate([maml(task, training=False) for task, _ in episodes])
    predicted = scaled * np.sqrt(targets.variance) + targets.mean
    prices = np.concatenate([y for _, y in episodes])
    prices = prices * np.sqrt(targets.variance) + targets.mean
    assert prices.min() > 400
    np.testing.assert_allclose(maml.predict(episodes, verbose=0), predicted, rtol=1e-5)
    logs = maml.evaluate(episodes, verbose=0, return_dict=True)
    np.testing.assert_allclose(logs["mae"], abs(predicted - prices).mean(), rtol=1e-4)
    result = mk.evaluate_episodes(maml, episodes, num_tasks=4, verbose=0)
    squares = np.square(predicted - prices).mean(axis=(1, 2))
    np.testing.assert_allclose(result.per_episode[:, -1], squares, rtol=1e-3)
    result = mk.evaluate_episodes(
        maml, episodes, num_tasks=4, verbose=0, metric="mean_absolute_error"
    )
    np.testing.assert_allclose(
        result.per_episode[:, -1], abs(predicted - prices).mean(axis=(1, 2)), rtol=1e-4
    )
    # What callbacks such as `Watch` log and draw is in the original unit, too.
    trace = mk.evaluation.trace_inner_loop(maml, episodes, num_tasks=4, verbose=0)
    np.testing.assert_allclose(trace.query_loss[:, -1], squares, rtol=1e-3)
    drawn = trace.examples
    np.testing.assert_allclose(drawn["query_y"], prices[:4], rtol=1e-5)
    np.testing.assert_allclose(drawn["predictions"][:, -1], predicted[:4], rtol=1e-4)


def test_an_adapted_model_takes_rows_and_predicts_prices(maml, parts):
    rows = frame()[frame().town == 3]
    tuned = maml.adapt(rows[:4], verbose=0)
    preparation = maml.preparation
    x, prices = preparation.raw(rows)
    predicted = tuned.predict(x, verbose=0)
    # The same task, prepared by hand: inputs scaled and one-hot, targets scaled.
    inputs = np.stack(
        [
            (rows["size"] - preparation.numbers["size"][0])
            / np.sqrt(preparation.numbers["size"][1]),
            rows.kind == "flat",
            rows.kind == "house",
        ],
        axis=-1,
    ).astype("float32")
    mean, deviation = (
        preparation.target_columns.mean[0],
        np.sqrt(preparation.target_columns.variance[0]),
    )
    task = {
        "support_x": inputs[None, :4],
        "support_y": ((prices[None, :4] - mean) / deviation).astype("float32"),
        "query_x": inputs[None],
    }
    by_hand = maml(task, training=False).numpy()[0] * deviation + mean
    np.testing.assert_allclose(predicted, by_hand, rtol=1e-5)
    # Prepared arrays of an episode, targets that come apart, and no targets.
    for support in (
        (task["support_x"][0], task["support_y"][0]),
        (rows[:4].drop(columns="price"), rows.price[:4]),
    ):
        again = maml.adapt(*support, verbose=0).predict(x, verbose=0)
        np.testing.assert_allclose(again, predicted, rtol=1e-5)
    with pytest.raises(
        ValueError, match="`support_y` must hold the targets. .*without"
    ):
        maml.adapt(rows.drop(columns="price"))
    with pytest.raises(
        ValueError, match="'kind' must hold .* 'tent' in row 0 of the D"
    ):
        maml.adapt(rows.assign(kind="tent"))


def test_files_keep_the_preparation(maml, parts, tmp_path):
    maml.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    assert loaded.preparation.get_config() == maml.preparation.get_config()
    episodes = new_tasks(parts)
    expected = maml.predict(episodes, verbose=0)
    np.testing.assert_array_equal(loaded.predict(episodes, verbose=0), expected)
    rows = frame()[frame().town == 3]
    tuned = loaded.adapt(rows[:4], verbose=0)
    tuned.save(tmp_path / "tuned.keras")
    x, _ = maml.preparation.raw(rows)
    np.testing.assert_array_equal(
        keras.saving.load_model(tmp_path / "tuned.keras").predict(x, verbose=0),
        tuned.predict(x, verbose=0),
    )
    assert maml.with_batch_norm("support").preparation is maml.preparation


@pytest.mark.parametrize("target", ["price", "kind"])
def test_a_model_adapts_to_the_rows_that_have_a_target(target):
    inputs = ["size"] if target == "kind" else ["size", "kind"]
    data = frame()
    data.loc[[0, 11], target] = None
    how = {"inputs": inputs, "target": target, "missing_target": "leave_out"}
    own = split(data, **how)[0].preparation
    loss = "mse"
    if target == "kind":
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    maml = model(own, loss=loss)
    maml.preparation = own
    mine = data[data.town == 3].copy()
    mine.loc[mine.index[[1, 4]], target] = None
    x, y = own.raw(mine)
    assert len(y) == len(x["size"]) == 9
    # The rows without a target change nothing.
    known = mine.drop(index=mine.index[[1, 4]])
    for one, other in zip(
        maml.adapt(mine).get_weights(), maml.adapt(known).get_weights()
    ):
        np.testing.assert_array_equal(one, other)
    with pytest.raises(ValueError, match=f"must have the target {target}.*none in any"):
        maml.adapt(mine.assign(**{target: None}))


def test_padded_queries_count_nowhere(maml):
    """Towns of 6 to 9 rows, all rows but four as queries: each town as by itself."""
    data = frame()
    data = data[data.groupby("town").cumcount() < 6 + data.town % 4]
    table = mk.data.from_table(
        data, task="town", inputs=["size", "kind"], target="price"
    ).prepared_by(maml.preparation)
    episodes = mk.data.episodes(
        family(table, queries="rest"), batch_size=8, seed=3, num_episodes=8
    )
    [(task, query_y)] = episodes
    task, query_y = {k: v.numpy() for k, v in task.items()}, query_y.numpy()
    real = task["query_weight"].astype(bool)
    assert len(set(real.sum(axis=1).tolist())) > 2
    result = mk.evaluate_episodes(maml, episodes, num_tasks=8, verbose=0)
    logs = maml.evaluate(episodes, verbose=0, return_dict=True)
    # Without weights, the network predicts padding as any other row.
    bare = {k: v for k, v in task.items() if k != "query_weight"}
    restored = maml.preparation.restored
    found = restored(maml(bare, training=False)) - restored(query_y)
    errors = [error[there] for error, there in zip(found.numpy(), real)]
    np.testing.assert_allclose(
        result.per_episode[:, -1], [np.square(e).mean() for e in errors], rtol=1e-5
    )
    np.testing.assert_allclose(
        logs["mae"], np.abs(np.concatenate(errors)).mean(), rtol=1e-5
    )


class Doubled(mk.data.TaskFamily):
    def __init__(self, tasks):
        self.tasks = tasks

    def sample(self, seed):
        return self.tasks.sample(seed)


def test_a_preparation_survives_what_is_done_to_episodes(parts):
    train = parts[0]
    episodes = mk.data.episodes(Doubled(family(train)), batch_size=2, seed=1)
    changed = episodes.map(lambda task, y: (task, y)).take(3).repeat().prefetch(1)
    for source in (family(train), Doubled(family(train)), episodes, changed):
        assert preparation_of(source) is train.preparation
    for source in (np.zeros(3), None, [changed], tf.data.Dataset.range(3)):
        assert preparation_of(source) is None
    other = split(frame().assign(price=frame().price * 2))[0]
    both = tf.data.Dataset.zip(
        changed, mk.data.episodes(family(other), batch_size=2, seed=1)
    )
    with pytest.raises(ValueError, match="must have one preparation"):
        preparation_of(both)


def test_another_preparation_is_refused(maml, parts):
    other = split(frame().assign(price=frame().price * 2))
    again = split()  # Fitted anew on the same rows.
    mk.evaluate_episodes(maml, new_tasks(again), num_tasks=2, verbose=0)
    for use in (maml.evaluate, maml.predict, maml.fit):
        with pytest.raises(
            ValueError, match="must be prepared as those that the model"
        ):
            use(new_tasks(other), verbose=0)
    with pytest.raises(ValueError, match="must be prepared as those"):
        mk.evaluate_episodes(maml, new_tasks(other), verbose=0)
    with pytest.raises(ValueError, match="must be prepared as those"):
        maml.fit(new_tasks(parts), validation_data=new_tasks(other), verbose=0)


def test_a_model_that_was_used_before_takes_the_preparation_later(parts):
    train = parts[0]
    maml = model(train.preparation)
    maml.compile("adam", jit_compile=False)
    batch = next(iter(new_tasks(parts)))
    scaled = maml.predict(batch[0], verbose=0)
    assert maml.preparation is None
    found = maml.predict(new_tasks(parts).take(1), verbose=0)
    targets = train.preparation.target_columns
    expected = scaled * np.sqrt(targets.variance) + targets.mean
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_classes_need_not_all_be_in_a_task():
    data = frame().assign(grade=["A", "B", "C"] + ["A", "B"] * 52 + ["A"])
    train, _, test = split(data, target="grade")
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    maml = trained(train, metrics=["accuracy"], loss=loss)
    episodes = mk.data.episodes(family(test), batch_size=2, seed=2, num_episodes=4)
    classes = maml.predict(episodes, verbose=0).argmax(axis=-1)
    right = classes == np.concatenate([y for _, y in episodes])
    logs = maml.evaluate(episodes, verbose=0, return_dict=True)
    np.testing.assert_allclose(logs["accuracy"], right.mean(), rtol=1e-6)
    rows = data[data.town == 3]
    tuned = maml.adapt(rows[:4], verbose=0)
    x, _ = maml.preparation.raw(rows)
    assert tuned.predict(x, verbose=0).shape == (9, 3)
    with pytest.raises(ValueError, match="'grade' must hold .* 'Z' in row 1"):
        maml.adapt(rows[:2], ["A", "Z"])


def test_several_labels_are_trained_and_predicted():
    data = frame().assign(old=np.arange(108) % 2 == 0, big=np.arange(108) % 3 == 0)
    train, _, test = split(data, target=["old", "big"])
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    metric = keras.metrics.BinaryAccuracy(threshold=0.0)
    maml = trained(train, metrics=[metric], loss=loss)
    episodes = mk.data.episodes(family(test), batch_size=2, seed=2, num_episodes=4)
    logits = maml.predict(episodes, verbose=0)
    right = (logits > 0) == np.concatenate([y for _, y in episodes])
    logs = maml.evaluate(episodes, verbose=0, return_dict=True)
    np.testing.assert_allclose(logs["binary_accuracy"], right.mean(), rtol=1e-6)

"""Twenty faults found in other implementations of MAML, one test for each.

Most have a deeper test elsewhere; here each is named, and checked once by itself.
"""

import contextlib
import hashlib
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import (
    CountedMSE,
    Momentum,
    assert_identical,
    batch_normalised,
    dense,
    directional_differences,
    family,
    maml,
    numpy_variables,
    plain_adapt,
    plain_query_loss,
    precision,
    regression,
    shared,
    tensors,
)

from maml_keras import MAML, InnerLoop
from maml_keras.data import NWayKShot, Sinusoid, episodes, from_arrays, split_classes
from maml_keras.evaluation.evaluate import evaluate_episodes
from maml_keras.evaluation.result import half_width

layers = keras.layers
SCCE = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def test_trap_01_second_order_graph_survives_adaptation():
    # If an implementation assigns weights to a copied model, second order equals first
    # order.
    with precision("float64"):
        model, batch = family("dense")
        second = maml(model, steps=2).compute_meta_gradients(batch)[1]
        first = maml(model, steps=2, second_order=False).compute_meta_gradients(batch)[
            1
        ]
        expected = directional_differences(model, batch, steps=2)
    for exact, cut, (direction, difference) in zip(second, first, expected):
        np.testing.assert_allclose(np.sum(exact * direction), difference, rtol=1e-6)
        assert abs(np.sum(cut * direction) - difference) > 1e-3 * abs(difference)


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_trap_02_outer_graph_goes_through_every_step(steps):
    with precision("float64"):
        model, batch = family("dense")
        got = maml(model, steps=steps).compute_meta_gradients(batch)[1]
        expected = directional_differences(model, batch, steps=steps)
    for gradient, (direction, difference) in zip(got, expected):
        np.testing.assert_allclose(np.sum(gradient * direction), difference, rtol=1e-6)


def bias_free():
    return keras.Sequential([keras.Input([3]), layers.Dense(2, use_bias=False)])


@pytest.mark.parametrize(
    "name",
    [
        "dense",
        "conv",
        "embedding",
        "attention",
        "gru",
        "shared",
        "nested",
        "subclassed",
        "multi_input",
        "bias_free",
    ],
)
def test_trap_03_every_kind_of_layer_adapts(name):
    if name == "bias_free":
        model, batch = bias_free(), regression()
    else:
        model, batch = family(name)
    task = tf.nest.map_structure(lambda a: a[0], batch[0])
    start = [v.numpy() for v in model.trainable_variables]
    adapted = maml(model, steps=2).adapt(task["support_x"], task["support_y"])
    plain_adapt(model, task["support_x"], task["support_y"], steps=2)
    moved = 0
    for before, ours, plain in zip(
        start, adapted.trainable_variables, model.trainable_variables
    ):
        moved += np.abs(ours - before).max() > 1e-5
        # float32, the same sums in another order.
        np.testing.assert_allclose(ours, plain, rtol=1e-4, atol=1e-6)
    # In attention the bias of the keys has no influence: it shifts all scores equally.
    assert moved == len(start) - (name == "attention")


@pytest.mark.parametrize("task_map", ["parallel", "vectorized"])
def test_trap_04_tasks_do_not_see_each_other(task_map):
    model = maml(batch_normalised(), task_map=task_map)
    task, _ = regression(tasks=3)
    before = model.predict_on_batch(task)
    task["support_y"][1] += 10.0
    after = model.predict_on_batch(task)
    np.testing.assert_array_equal(before[[0, 2]], after[[0, 2]])
    assert np.abs(before[1] - after[1]).max() > 0.1


def test_trap_05_outer_loss_is_on_the_query_set():
    model = maml(dense())
    task, query_y = regression()
    loss, gradients = model.compute_meta_gradients((task, query_y))
    other_loss, others = model.compute_meta_gradients((task, query_y + 1.0))
    assert abs(float(loss - other_loss)) > 0.1
    assert all(np.abs(a - b).max() > 1e-3 for a, b in zip(gradients, others))


def flat_pool(classes=6, examples=8):
    x = np.arange(classes * examples, dtype="int32")[:, None]
    return from_arrays(x, np.arange(classes * examples) // examples)


def test_trap_06_support_and_query_never_share_an_example():
    plan = NWayKShot(flat_pool(), ways=4, shots=2, queries=3).plan([0, 1], 10_000)
    rows = np.concatenate([plan["support_rows"], plan["query_rows"]], axis=1)
    assert (np.diff(np.sort(rows, axis=1), axis=1) > 0).all()
    # The pool has eight rows a class, so `row // 8` is the class: four different ones.
    classes = np.sort(rows // 8, axis=1)
    np.testing.assert_array_equal((np.diff(classes, axis=1) > 0).sum(axis=1), 3)


def image_pool(classes=8, examples=6):
    """Classes that differ much, so that a leak would show."""
    generator = np.random.default_rng(0)
    prototypes = generator.normal(size=[classes, 8, 8, 1])
    x = np.repeat(prototypes, examples, axis=0)
    x += 0.1 * generator.normal(size=x.shape)
    return from_arrays(x.astype("float32"), np.repeat(np.arange(classes), examples))


def conv_net(ways):
    return keras.Sequential(
        [
            keras.Input([8, 8, 1]),
            layers.Conv2D(4, 3, strides=2, activation="relu"),
            layers.Flatten(),
            layers.Dense(ways),
        ]
    )


def test_trap_07_nothing_leaks_the_label_before_adaptation():
    tasks = NWayKShot(image_pool(), ways=4, shots=1, queries=2)
    batches = episodes(tasks, batch_size=100, seed=3, num_episodes=300)
    learner = maml(conv_net(4), loss=SCCE, rate=0.5, steps=3)
    # A network must learn to use a leak, so the network is trained first.
    learner.compile(keras.optimizers.Adam(1e-2))
    training = episodes(tasks, batch_size=8, seed=4)
    learner.fit(training, steps_per_epoch=60, verbose=0)
    result = evaluate_episodes(learner, batches, verbose=0)
    # The limit is three standard errors; the half-width has 1.96 of them.
    assert abs(result.curve[0] - 1 / 4) < 3 / 1.96 * result.half_widths[0]
    assert result.mean > 0.6  # After adaptation the classes can be told apart.


def test_trap_08_each_class_is_rotated_by_its_own_angle():
    corner = np.zeros([2, 2], "float32")
    corner[0, 0] = 1.0
    x = np.stack([corner * (c + 1) for c in range(6) for _ in range(4)])[..., None]
    pool = from_arrays(x, np.repeat(np.arange(6), 4))
    tasks = NWayKShot(pool, ways=5, shots=1, queries=2, rotate_classes=True)
    task, query_y = tasks.sample_many([0, 2], 50)

    def turns(images):
        return np.reshape(images, [50, -1, 4]).argmax(axis=-1)

    angles, seen = turns(task["support_x"]), turns(task["query_x"])
    order = np.argsort(task["support_y"], axis=1)
    by_label = np.take_along_axis(angles, order, axis=1)
    expected = np.take_along_axis(by_label, np.asarray(query_y), axis=1)
    np.testing.assert_array_equal(seen, expected)
    assert (np.ptp(by_label, axis=1) > 0).mean() > 0.9
    assert set(by_label.ravel()) == {0, 1, 2, 3}


def test_trap_09_class_split_does_not_depend_on_process_or_order():
    names = [f"class {i}" for i in range(30)]

    def digest(names):
        pool = from_arrays(np.zeros([30, 2]), np.arange(30), class_names=names)
        parts = split_classes(pool, train=20, validation=4, test=6)
        return hashlib.sha256(str([p.class_names for p in parts]).encode()).hexdigest()

    # Python draws a new hash seed for each run, so a constant proves independence.
    expected = "9a868b1858546dfd3e6b247637aa482116a1939825c7db8c610bd20ab1a22587"
    assert digest(names) == expected
    shuffled = [names[i] for i in np.random.default_rng(0).permutation(30)]
    assert digest(shuffled) == expected


@pytest.mark.usefixtures("without_graphs")
def test_trap_10_running_statistics_predict_queries_independently():
    model = batch_normalised()
    model.layers[1].moving_mean.assign_add(tf.range(6.0) / 10)
    task, _ = regression(queries=4)
    one_by_one = [{**task, "query_x": task["query_x"][:, i : i + 1]} for i in range(4)]

    def difference(policy):
        wrapped = maml(model, batch_norm=policy)
        whole = wrapped.predict_on_batch(task)
        parts = [wrapped.predict_on_batch(part) for part in one_by_one]
        return np.abs(whole - np.concatenate(parts, axis=1)).max()

    assert difference("running") < 1e-6  # float32
    assert difference("transductive") > 1e-2  # Hence reports must name the policy.


@pytest.mark.usefixtures("without_graphs")
@pytest.mark.parametrize("policy", ["transductive", "running"])
def test_trap_11_evaluation_leaves_every_variable_bit_for_bit(policy):
    model = maml(batch_normalised(), batch_norm=policy)
    model.compile("sgd")
    batch = regression()
    before = numpy_variables(model)
    model.evaluate(*batch, verbose=0)
    model.predict(batch[0], verbose=0)
    model.adapt(batch[0]["support_x"][0], batch[0]["support_y"][0])
    evaluate_episodes(model, [batch], verbose=0)
    assert_identical(before, numpy_variables(model))


@pytest.mark.usefixtures("without_graphs")
@pytest.mark.parametrize(
    ("clip", "size"),
    [
        ({"clipnorm": 0.5}, lambda updates: max(map(np.linalg.norm, updates))),
        ({"clipvalue": 0.5}, lambda updates: max(np.abs(u).max() for u in updates)),
        (
            {"global_clipnorm": 0.5},
            lambda updates: np.linalg.norm([np.linalg.norm(u) for u in updates]),
        ),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_trap_12_clipping_bounds_the_applied_update(clip, size):
    def updates(**kwargs):
        model = maml(dense())
        model.compile(keras.optimizers.SGD(1.0, **kwargs))
        before = [v.numpy() for v in model.trainable_variables]
        task, query_y = regression()
        model.train_on_batch(task, query_y * 1e4)
        return [v.numpy() - b for v, b in zip(model.trainable_variables, before)]

    assert size(updates()) > 100
    # The update has exactly the size of the bound: it was clipped, and not too much.
    np.testing.assert_allclose(size(updates(**clip)), 0.5, rtol=1e-3)


@pytest.mark.usefixtures("without_graphs")
@pytest.mark.parametrize("task_map", ["parallel", "vectorized"])
def test_trap_13_rule_state_is_each_tasks_own(task_map):
    inner = InnerLoop("mse", Momentum(0.05), steps=3)
    model = MAML(dense(), inner, task_map=task_map)
    task, _ = regression(tasks=4)
    order = np.array([2, 0, 3, 1])
    straight = model.predict_on_batch(task)
    permuted = model.predict_on_batch({k: v[order] for k, v in task.items()})
    np.testing.assert_array_equal(straight[order], permuted)


def test_trap_14_ways_must_equal_the_width_of_the_head():
    tasks = NWayKShot(image_pool(), ways=5, shots=1, queries=1)
    model = maml(conv_net(4), loss=SCCE)
    model.compile("sgd")
    with pytest.raises(
        ValueError, match=r"as many ways as .* outputs.*0\.\.4.* 4 outputs"
    ):
        model.fit(episodes(tasks, batch_size=2, seed=0), steps_per_epoch=1, verbose=0)


class Interrupt(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        raise KeyboardInterrupt


def resumable(seed=5):
    keras.utils.set_random_seed(seed)
    net = keras.Sequential(
        [
            keras.Input([1]),
            layers.Dense(4, activation="tanh"),
            layers.BatchNormalization(),
            layers.Dropout(0.5),
            layers.Dense(1),
        ]
    )
    model = maml(net, seed=3, task_map="auto")
    model.compile(keras.optimizers.Adam(1e-2))
    return model


def everything(model):
    # Random generators inside the model are left out: training never reads them.
    states = [*model.variables, *model.optimizer.variables]
    return [v.numpy() for v in states if v.name != "seed_generator_state"]


@pytest.fixture(scope="module")
def hundred_straight_steps():
    model = resumable()
    model.fit(
        episodes(Sinusoid(), batch_size=2, seed=1), steps_per_epoch=100, verbose=0
    )
    return everything(model)


@pytest.mark.parametrize("how", ["save", "backup"])
def test_trap_15_two_runs_of_fifty_are_one_of_a_hundred(
    how, tmp_path, hundred_straight_steps
):
    batches = episodes(Sinusoid(), batch_size=2, seed=1)
    model = resumable()
    if how == "save":
        model.fit(batches, steps_per_epoch=50, verbose=0)
        model.save(tmp_path / "model.keras")
        model = keras.models.load_model(tmp_path / "model.keras")
        model.fit(batches, steps_per_epoch=50, verbose=0)
    else:
        backup = keras.callbacks.BackupAndRestore(tmp_path / "backup")
        fit = {"steps_per_epoch": 50, "epochs": 2, "verbose": 0}
        with contextlib.suppress(KeyboardInterrupt):
            model.fit(batches, callbacks=[backup, Interrupt()], **fit)
        assert int(model.episodes_seen) == 100
        model = resumable(seed=6)  # The backup replaces these other weights.
        model.fit(batches, callbacks=[backup], **fit)
    assert int(model.episodes_seen) == 200
    found = everything(model)
    assert len(found) == len(hundred_straight_steps)
    for straight, resumed in zip(hundred_straight_steps, found):
        np.testing.assert_allclose(resumed, straight, rtol=1e-6, atol=1e-6)


def test_trap_16_interval_is_not_the_standard_deviation():
    values = np.array([1.0, 2.0, 3.0, 4.0])
    expected = 1.96 * np.sqrt(5 / 3) / 2  # Sample variance 5/3, four tasks.
    assert half_width(values) == pytest.approx(expected, rel=1e-12)
    assert half_width(np.tile(values, 100)) < expected / 9


@pytest.mark.parametrize("queries", [1, 5, 15])
def test_trap_17_query_set_may_have_another_size_than_support(queries):
    model, batch = dense(), regression(support=5, queries=queries)
    start = [v.numpy() for v in model.trainable_variables]
    loss, _ = maml(model, steps=2).compute_meta_gradients(batch)
    assert maml(model).predict_on_batch(batch[0]).shape == (2, queries, 2)
    expected = plain_query_loss(model, batch, start, steps=2)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)  # float32


@pytest.mark.parametrize("kwargs", [{"steps": 0}, {"steps": 2, "rate": 0.0}])
@pytest.mark.parametrize("second_order", [True, False])
def test_trap_18_without_adaptation_it_is_ordinary_training(kwargs, second_order):
    model, (task, query_y) = dense(), regression()
    wrapped = maml(model, second_order=second_order, **kwargs)
    got = wrapped.compute_meta_gradients((task, query_y))[1]
    with tf.GradientTape() as tape:
        # Tasks of equal size: the mean over tasks is the mean over all examples.
        predictions = model(np.reshape(task["query_x"], [-1, 3]))
        loss = tf.reduce_mean(tf.square(np.reshape(query_y, [-1, 2]) - predictions))
    for a, b in zip(got, tape.gradient(loss, model.trainable_variables)):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)  # float32


@pytest.mark.optimized
def test_trap_19_eager_graph_xla_and_every_map_give_the_same():
    model, batch = dense(), tensors(regression(tasks=3))
    results = {}
    for name in ("sequential", "parallel", "vectorized"):
        wrapped = maml(model, task_map=name)
        results[name, "eager"] = wrapped.compute_meta_gradients(batch)
        results[name, "graph"] = tf.function(wrapped.compute_meta_gradients)(batch)
    compiled = tf.function(wrapped.compute_meta_gradients, jit_compile=True)
    results["vectorized", "xla"] = compiled(batch)
    loss, gradients = results["sequential", "eager"]
    for other_loss, others in results.values():
        # float32, the same sums in another order.
        np.testing.assert_allclose(other_loss, loss, rtol=1e-5)
        for a, b in zip(others, gradients):
            np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)


def test_trap_19_nothing_is_traced_again_over_steps():
    counted = CountedMSE()
    batches = episodes(Sinusoid(), batch_size=2, seed=1)
    model = maml(dense(1, 1), loss=counted, task_map="auto")
    model.compile("sgd")
    model.fit(batches, steps_per_epoch=2, verbose=0)
    traced = counted.calls
    model.fit(batches, steps_per_epoch=2, epochs=3, verbose=0)
    assert traced > 0
    assert counted.calls == traced


class WithUnused(keras.Model):
    def __init__(self):
        super().__init__()
        self.used, self.spare = layers.Dense(2), layers.Dense(2, name="spare")

    def build(self, shape):
        self.used.build(shape)
        self.spare.build(shape)

    def call(self, x):
        return self.used(x)


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "graph"])
def test_trap_20_unused_variable_is_named_once_and_gets_zero(steps, compiled):
    model = WithUnused()
    model.build([None, 3])
    wrapped = maml(model, steps=steps)
    function = wrapped.compute_meta_gradients
    function = tf.function(function) if compiled else function
    with pytest.warns(UserWarning, match=r"do not influence.*spare/kernel.*spare/bias"):
        _, gradients = function(regression())
    by_path = {v.path: g for v, g in zip(wrapped.trainable_variables, gradients)}
    zeros = [g for path, g in by_path.items() if "spare" in path]
    assert len(zeros) == 2
    assert all(not np.any(g) for g in zeros)
    assert all(np.any(g) for path, g in by_path.items() if "spare" not in path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        wrapped.compute_meta_gradients(regression())


def test_trap_20_shared_layers_count_once():
    wrapped = maml(shared())
    assert len(wrapped.trainable_variables) == 4  # Two layers, kernel and bias.
    assert len(wrapped.compute_meta_gradients(regression())[1]) == 4


def test_trap_20_frozen_layers_stay_frozen():
    model, batch = family("frozen")
    wrapped = maml(model)
    wrapped.compile("sgd")
    before = model.layers[0].kernel.numpy()
    head = model.layers[1].kernel.numpy()
    wrapped.train_on_batch(*batch)
    np.testing.assert_array_equal(model.layers[0].kernel, before)
    assert np.abs(model.layers[1].kernel - head).max() > 0
    adapted = wrapped.adapt(batch[0]["support_x"][0], batch[0]["support_y"][0])
    np.testing.assert_array_equal(adapted.layers[0].kernel, before)

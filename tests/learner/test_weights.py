"""Weights of examples: a padded task gives the numbers of the same task unpadded."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import maml_keras as mk
from maml_keras.learner import weights
from tests.members import POLICIES

pytestmark = pytest.mark.usefixtures("without_graphs")

# Real examples of each task; both are padded to the larger numbers.
SUPPORT, QUERY = (4, 7), (5, 3)
GENERATOR = np.random.default_rng(0)


def a_task(support, query, ways=3):
    x = GENERATOR.normal(size=[support + query, 4, 2])
    y = np.concatenate([np.arange(support), np.arange(query)]) % ways
    return (x[:support], y[:support], x[support:], y[support:])


TASKS = [a_task(*sizes) for sizes in zip(SUPPORT, QUERY, strict=True)]


def unpadded(task):
    sx, sy, qx, qy = (a[None] for a in task)
    return {"support_x": sx, "support_y": sy, "query_x": qx}, qy


def padded(tasks, noise=3.0):
    """The tasks in one batch. Padding is no copy, so that counting it would show."""

    def rows(arrays, length):
        first = arrays[0]
        fill = noise * np.ones([length - len(first), *first.shape[1:]])
        return np.concatenate([first, fill.astype(first.dtype)])

    most = max(SUPPORT), max(QUERY)
    sizes = most[0], most[0], most[1], most[1]
    parts = [[rows([a], n) for a, n in zip(t, sizes, strict=True)] for t in tasks]
    sx, sy, qx, qy = (np.stack(p) for p in zip(*parts, strict=True))
    sy, qy = sy % 3, qy % 3
    there = [
        np.array([np.arange(n) < len(t[part]) for t in tasks], "float64")
        for part, n in ((0, most[0]), (2, most[1]))
    ]
    task = {"support_x": sx, "support_y": sy, "query_x": qx}
    return {**task, "support_weight": there[0], "query_weight": there[1]}, qy


def network():
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input([4, 2], dtype="float64"),
            keras.layers.Dense(3, dtype="float64"),
            keras.layers.BatchNormalization(dtype="float64"),
            keras.layers.Flatten(dtype="float64"),
            keras.layers.Dense(3, dtype="float64"),
        ]
    )


LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def slow(policy):
    return pytest.param(policy, marks=pytest.mark.slow)


def model(policy="transductive", loss=LOSS, network=network, steps=1, **options):
    inner = mk.InnerLoop(loss, mk.SGD(0.1), steps=steps, **options)
    return mk.MAML(network(), inner, batch_norm=policy, task_map="parallel", seed=0)


# One policy for each way to normalise; the others run among the slow proofs.
ALL = [
    policy if policy in ("transductive", "beside", "per_step") else slow(policy)
    for policy in POLICIES
]


@pytest.mark.parametrize("policy", ALL)
def test_loss_and_meta_gradient_of_padded_tasks_are_those_of_unpadded_ones(policy):
    maml = model(policy, steps=1)
    tasks = TASKS if policy == "transductive" else TASKS[:1]
    gradient = tf.function(maml.compute_meta_gradients)
    loss, gradients = gradient(padded(tasks))
    single = [gradient(unpadded(task)) for task in tasks]
    # float64; Keras's masked moments add 1e-7 to a count of 16 and more.
    np.testing.assert_allclose(loss, np.mean([one for one, _ in single]), rtol=1e-7)
    for found, *each in zip(gradients, *(g for _, g in single), strict=True):
        np.testing.assert_allclose(found, np.mean(each, axis=0), rtol=1e-6, atol=1e-8)


def trained(batch):
    """Accuracy and moving mean after one meta-step at an outer rate of zero."""
    maml = model("running")
    maml.compile(keras.optimizers.SGD(0.0), metrics=["accuracy"], run_eagerly=True)
    maml.train_on_batch(*batch)
    accuracy = float(maml.get_metrics_result()["accuracy"])
    return accuracy, maml.model.non_trainable_variables[0].numpy()


def test_moving_statistics_and_metrics_leave_out_padding():
    accuracy, mean = trained(padded(TASKS))
    single = [trained(unpadded(task)) for task in TASKS]
    # Keras's metrics count each query once, so the task of five counts more.
    assert accuracy == pytest.approx((5 * single[0][0] + 3 * single[1][0]) / 8)
    np.testing.assert_allclose(mean, np.mean([m for _, m in single], axis=0), rtol=1e-6)


def test_predictions_do_not_see_padding():
    maml = model()
    both = maml(padded(TASKS)[0])
    for task, row in zip(TASKS, both, strict=True):
        one = maml(unpadded(task)[0])[0]
        np.testing.assert_allclose(row[: len(one)], one, rtol=1e-6)


@pytest.mark.parametrize("queries", ["together", slow("alone")])
def test_evaluation_leaves_out_padding(queries):
    maml = model("support" if queries == "alone" else "transductive")

    def evaluated(batch):
        return mk.evaluate_episodes(maml, [batch], queries=queries, verbose=0)

    found = evaluated(padded(TASKS))
    for task, row in zip(TASKS, found.per_episode, strict=True):
        alone = evaluated(unpadded(task)).per_episode[0]
        np.testing.assert_allclose(row, alone, rtol=1e-6)
    assert found.queries == (3, 5)


@pytest.mark.slow
def test_a_trace_leaves_out_padding():
    maml = model()
    found = mk.trace_inner_loop(maml, [padded(TASKS)], steps=1)
    for i, task in enumerate(TASKS):
        one = mk.trace_inner_loop(maml, [unpadded(task)], steps=1)
        for name in ("support_loss", "query_loss", "support_metric", "query_metric"):
            row = getattr(found, name)[i]
            np.testing.assert_allclose(row, getattr(one, name)[0], rtol=1e-5)


def test_prototypes_leave_out_padding_and_weigh_examples():
    maml = model(start=mk.PrototypicalHead())
    loss, gradients = maml.compute_meta_gradients(padded(TASKS[:1]))
    expected, others = maml.compute_meta_gradients(unpadded(TASKS[0]))
    np.testing.assert_allclose(loss, expected, rtol=1e-7)
    for one, other in zip(gradients, others, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-7)


def linear():
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input([1]), keras.layers.Dense(1)])


def test_a_support_weight_is_a_share_of_the_inner_loss():
    # One example of weight 2 is the same example twice, each of weight 1.
    x = np.array([[[1.0], [2.0], [2.0]]], "float32")
    y = 3 * x
    maml = model(loss="mse", network=linear)
    task = {"support_x": x, "support_y": y, "query_x": x}
    twice = maml.compute_meta_gradients((task, y))
    once = {**task, "support_x": x[:, :2], "support_y": y[:, :2]}
    once["support_weight"] = np.array([[0.5, 1.0]], "float32")
    weighed = maml.compute_meta_gradients((once, y))
    tf.nest.map_structure(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), twice, weighed
    )


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.ones([1, 5]), r"`support_weight` must have shape \[tasks, examples\]"),
        (np.array([[1.0, -1.0]]), "`support_weight` must be finite and not negative"),
        (np.array([[1.0, np.nan]]), "`support_weight` must be finite"),
        (np.zeros([1, 2]), "must leave each task an example"),
    ],
)
def test_wrong_weights_are_refused(value, message):
    x = np.ones([1, 2, 1], "float32")
    maml = model(loss="mse", network=linear)
    maml.compile("sgd")
    task = {"support_x": x, "support_y": x, "query_x": x, "support_weight": value}
    with pytest.raises(ValueError, match=message):
        maml.train_on_batch(task, x)


def scalar_loss(y_true, y_pred):
    return tf.reduce_mean(tf.square(y_true - y_pred))


def test_what_would_count_padding_is_refused_by_name():
    x = np.ones([1, 2, 1], "float32")
    there = np.array([[1.0, 0.0]], "float32")
    task = {"support_x": x, "support_y": x, "query_x": x, "query_weight": there}
    supported = {**task, "support_weight": there}
    with pytest.raises(ValueError, match="A loss must return a value for each example"):
        model(loss=scalar_loss, network=linear).compute_meta_gradients((task, x))
    maml = model(loss="mse", network=linear)
    maml.compile("sgd", metrics=[keras.metrics.R2Score(name="r2")], run_eagerly=True)
    with pytest.raises(ValueError, match="the metric 'r2' of class R2Score"):
        maml.train_on_batch(task, x)
    with pytest.raises(ValueError, match="`metric` must return a value for each"):
        mk.evaluate_episodes(maml, [(task, x)], metric=scalar_loss, verbose=0)

    def regularised():
        layer = keras.layers.Dense(1, activity_regularizer="l2")
        return keras.Sequential([keras.Input([1]), layer])

    with pytest.raises(ValueError, match="`activity_regularizer`"):
        model(loss="mse", network=regularised).compute_meta_gradients((supported, x))

    def reshaping():
        return keras.Sequential(
            [
                keras.Input([2, 1]),
                keras.layers.Lambda(lambda x: tf.reshape(x, [-1, 1])),
                keras.layers.BatchNormalization(name="inside"),
                keras.layers.Lambda(lambda x: tf.reshape(x, [-1, 2])),
                keras.layers.Dense(1),
            ]
        )

    x = np.ones([1, 2, 2, 1], "float32")
    task = {"support_x": x, "support_y": x[..., 0, :], "query_x": x}
    with pytest.raises(ValueError, match="layer 'inside' with inputs of shape"):
        model(loss="mse", network=reshaping).compute_meta_gradients(
            ({**task, "support_weight": there}, x[..., 0, :])
        )
    with pytest.raises(ValueError, match="Only Keras cannot leave out padding"):
        weights.refuse(supported, "Only Keras")

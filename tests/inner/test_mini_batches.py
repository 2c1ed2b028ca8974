"""Inner steps on parts of the support set, against plain Keras on the same parts."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import RATE, batch_normalised, dense, mse, regression, task_of, tensors

import maml_keras as mk
from maml_keras.inner import mini_batches
from maml_keras.outer.meta_step import mean_loss

# Two passes over four examples, of which the second is not whole.
STEPS, SIZE, SEED = 3, 2, 3


def learner(model=None, task_map="parallel", meta_gradient=None, **kwargs):
    keras.utils.set_random_seed(0)
    options = {"steps": STEPS, "batch_size": SIZE, "batch_seed": SEED, **kwargs}
    inner = mk.InnerLoop("mse", mk.SGD(RATE), **options)
    return mk.MAML(
        model or dense(), inner, task_map=task_map, meta_gradient=meta_gradient, seed=0
    )


def parts(examples, size, steps, seed=SEED):
    return [
        mini_batches.positions(k, examples, size=size, seed=seed).numpy().tolist()
        for k in range(steps)
    ]


@pytest.mark.parametrize(("examples", "size"), [(6, 2), (5, 2), (7, 3), (4, 4), (3, 8)])
def test_each_pass_over_the_support_set_has_each_example_once(examples, size):
    dealt = parts(examples, size, steps=4 * examples)
    assert {len(part) for part in dealt} == {min(size, examples)}
    passes = np.reshape(np.concatenate(dealt)[: 4 * examples], [4, examples])
    np.testing.assert_array_equal(np.sort(passes), [range(examples)] * 4)
    assert len({tuple(order) for order in passes.tolist()}) > 1


def test_parts_are_drawn_from_the_seed():
    assert parts(20, 4, 5) == parts(20, 4, 5) != parts(20, 4, 5, seed=SEED + 1)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"task_map": "sequential"},
        {"task_map": "vectorized"},
        {"rematerialize": True},
        {"xla": True, "task_map": "vectorized"},
    ],
    ids=str,
)
def test_steps_are_plain_gradient_steps_on_the_parts(options):
    options = dict(options)
    xla = options.pop("xla", False)
    batch = regression(tasks=3, seed=1)
    examples = batch[0]["support_x"].shape[1]
    maml = learner(**options)

    @tf.function(jit_compile=xla, autograph=False)
    def adapted_loss(batch):
        return mean_loss(maml, *batch, seed=tf.constant([0, 0]))

    loss = adapted_loss(tensors(batch))
    start = maml.model.get_weights()
    losses = []
    for index in range(3):
        task, query_y = task_of(batch, index)
        maml.model.set_weights(start)
        for rows in parts(examples, SIZE, STEPS):
            with tf.GradientTape() as tape:
                x, y = (
                    tf.gather(task[key], rows) for key in ("support_x", "support_y")
                )
                value = mse(y, maml.model(x, training=True))
            variables = maml.model.trainable_variables
            for v, g in zip(variables, tape.gradient(value, variables)):
                v.assign_sub(RATE * g)
        losses.append(mse(query_y, maml.model(task["query_x"], training=True)))
    np.testing.assert_allclose(loss, np.mean(losses), rtol=1e-5)  # float32


def test_the_meta_gradient_is_exact():
    maml = learner(batch_normalised(), steps=3)
    checks = mk.check_meta_gradient(maml, regression(), verbose=0)
    assert all(check.decided for check in checks)


@pytest.mark.usefixtures("without_graphs")
def test_a_part_of_all_examples_is_the_support_set():
    batch = regression()
    examples = batch[0]["support_x"].shape[1]
    found = [
        learner(batch_size=size).compute_meta_gradients(batch)[0]
        for size in (None, examples, 10 * examples)
    ]
    np.testing.assert_allclose(found[1:], found[0], rtol=1e-5)  # another order


def test_adaptation_evaluation_files_and_exports_deal_the_same_parts(tmp_path):
    maml = learner()
    task, query_y = regression(tasks=1, seed=2)
    one = tf.nest.map_structure(lambda a: a[0], task)
    expected = maml.predict_on_batch(task)[0]
    adapted = maml.adapt(one["support_x"], one["support_y"], verbose=0)
    close = {"rtol": 1e-5, "atol": 1e-6}  # float32
    np.testing.assert_allclose(adapted(one["query_x"]), expected, **close)
    result = mk.evaluate_episodes(maml, [(task, query_y)], verbose=0)
    np.testing.assert_allclose(
        result.mean, np.square(expected - query_y[0]).mean(), rtol=1e-5
    )
    maml.save(tmp_path / "maml.keras")
    loaded = keras.saving.load_model(tmp_path / "maml.keras")
    assert (loaded.inner.batch_size, loaded.inner.batch_seed) == (SIZE, SEED)
    np.testing.assert_allclose(loaded.predict_on_batch(task)[0], expected, **close)
    maml.export(tmp_path / "export", verbose=0)
    exported = tf.saved_model.load(str(tmp_path / "export"))
    answer = exported.adapt_and_predict(
        tf.constant(one["support_x"]),
        tf.constant(one["support_y"]),
        tf.constant(one["query_x"]),
        tf.constant(STEPS),
        tf.constant(RATE),
    )
    np.testing.assert_allclose(answer, expected, **close)
    card = mk.model_card(tmp_path / "export", latency=False).card
    assert card["inner_loop"]["batch_size"] == SIZE
    pytest.importorskip("onnxruntime")
    with pytest.raises(ValueError, match="cannot learn in the format 'onnx'.*parts"):
        mk.convert(tmp_path / "export", tmp_path / "a.onnx", adapt=True, verbose=0)


def test_a_file_of_before_has_no_parts():
    config = learner().inner.get_config()
    del config["batch_size"], config["batch_seed"], config["epochs"]
    assert mk.InnerLoop.from_config(config).batch_size is None


@pytest.mark.parametrize("size", [0, -1, 2.5, True])
def test_a_size_that_is_none_is_refused(size):
    with pytest.raises(ValueError, match="`batch_size` must be a whole number"):
        learner(batch_size=size)


def padded(batch, sizes):
    """The batch with the first examples of each support set, the others padding."""
    task, query_y = batch
    there = np.arange(task["support_x"].shape[1]) < np.reshape(sizes, [-1, 1])
    for name in ("support_x", "support_y"):
        values = np.array(task[name])
        values[~there] = 1e3
        task = {**task, name: values}
    return {**task, "support_weight": there.astype("float32")}, query_y


# Parts that are larger than the smallest support set, too.
@pytest.mark.parametrize(
    ("size", "how", "xla"), [(2, {}, False), (4, {"epochs": 2}, True)], ids=str
)
def test_padding_is_never_dealt(size, how, xla):
    """Each task alone, without its padding, has the same loss."""
    batch, sizes = regression(tasks=3, support=5, seed=1), [5, 3, 4]
    maml = learner(task_map="vectorized", batch_size=size, **how)
    function = tf.function(
        lambda b: maml.compute_meta_gradients(b)[0], jit_compile=xla, autograph=False
    )
    loss = function(tensors(padded(batch, sizes)))
    alone = []
    for i, n in enumerate(sizes):
        task = {k: v[i : i + 1] for k, v in batch[0].items()}
        task = {k: v[:, :n] if "support" in k else v for k, v in task.items()}
        one = (task, batch[1][i : i + 1])
        alone.append(maml.compute_meta_gradients(tensors(one))[0])
    np.testing.assert_allclose(loss, np.mean(alone), rtol=1e-5)  # float32


def test_orders_are_uniform():
    """Each of six orders of three examples in a sixth of 120 passes."""
    dealt = np.reshape(parts(3, 3, steps=120), [120, 3])
    orders, counts = np.unique(dealt, axis=0, return_counts=True)
    assert len(orders) == 6
    assert abs(counts - 20).max() < 4 * 4.1  # The deviation of a binomial.


def test_weights_of_examples_count_in_their_part():
    batch = regression(tasks=1)
    weight = np.ones(batch[0]["support_x"].shape[:2], "float32")
    loss = {
        factor: learner().compute_meta_gradients(
            ({**batch[0], "support_weight": weight * factor}, batch[1])
        )[0]
        for factor in (1.0, 3.0)
    }
    np.testing.assert_allclose(loss[3.0], loss[1.0], rtol=1e-5)  # A weighted mean.
    weight[0, 0] = 7.0
    other = {**batch[0], "support_weight": weight}
    changed = learner().compute_meta_gradients((other, batch[1]))[0]
    assert abs(changed / loss[1.0] - 1) > 1e-4


@pytest.mark.parametrize("rule", [mk.SGD(RATE), mk.Adam(RATE)], ids=["sgd", "adam"])
def test_a_task_stops_after_its_epochs(rule, tmp_path):
    """Seven examples in parts of two: two epochs are seven steps, also of twenty."""
    keras.utils.set_random_seed(0)
    model = dense()
    task, query_y = regression(tasks=1, seed=2, support=7)
    stopped, plain = (
        mk.MAML(
            model,
            mk.InnerLoop("mse", rule, steps=n, batch_size=2, batch_seed=SEED, **how),
            task_map="parallel",
        )
        for n, how in ((20, {"epochs": 2}), (7, {}))
    )
    expected = plain.predict_on_batch(task)
    close = {"rtol": 1e-5, "atol": 1e-6}  # float32
    np.testing.assert_allclose(stopped.predict_on_batch(task), expected, **close)
    x, y = task["support_x"][0], task["support_y"][0]
    adapted = stopped.adapt(x, y, verbose=0)  # The steps are a loop in the graph.
    np.testing.assert_allclose(adapted(task["query_x"][0]), expected[0], **close)
    curve = mk.evaluate_episodes(stopped, [(task, query_y)], verbose=0).curve
    assert len(set(curve[7:].tolist())) == 1
    assert len(set(curve[:8].tolist())) == 8
    stopped.save(tmp_path / "maml.keras")
    assert keras.saving.load_model(tmp_path / "maml.keras").inner.epochs == 2


def test_too_few_steps_for_the_epochs_are_refused():
    message = rf"steps={STEPS}, but 3 epochs of 4 examples in parts of 2 are 6 steps"
    with pytest.raises(ValueError, match=message):
        learner(epochs=3).compute_meta_gradients(regression())
    with pytest.raises(ValueError, match="needs a `batch_size`.* pass steps=2 alone"):
        learner(batch_size=None, epochs=2)
    with pytest.raises(ValueError, match="`epochs` must be a whole number of passes"):
        learner(epochs=0)


def test_implicit_gradients_refuse_parts():
    with pytest.raises(ValueError, match="each part of a support set is another"):
        learner(meta_gradient=mk.Implicit(), proximal=1.0)

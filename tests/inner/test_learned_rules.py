"""Rates and matrices that are meta-learned with the initialisation."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import RATE, dense, images, maml, mse, plain_query_loss, regression

from maml_keras import (
    MAML,
    Backprop,
    FirstOrder,
    InnerLoop,
    MetaCurvature,
    MetaSGD,
    PerStepSGD,
    check_meta_gradient,
    evaluate_episodes,
)

pytestmark = pytest.mark.usefixtures("tasks_in_a_loop", "without_graphs")

RULES = [MetaSGD, PerStepSGD, MetaCurvature]


def wrapped(rule, *, steps=2, model=None, **kwargs):
    return MAML(model or dense(), InnerLoop("mse", rule(RATE), steps=steps, **kwargs))


@pytest.mark.parametrize("rule", RULES)
def test_an_untrained_rule_is_gradient_descent(rule):
    model, batch = dense(), regression()
    plain = maml(model, steps=2)
    got, expected = wrapped(rule, model=model)(batch[0]), plain(batch[0])
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)  # float32


@pytest.mark.graphs
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("model", [dense, lambda: images()], ids=["dense", "conv"])
def test_gradient_of_learned_variables_matches_differences(rule, model):
    shape = (3,) if model is dense else (6, 6, 1)
    learned = wrapped(rule, model=model(), steps=2 if model is dense else 1)
    checks = check_meta_gradient(learned, regression(shape))
    assert len(checks) == len(learned.trainable_variables)
    assert all(c.decided for c in checks)


@pytest.mark.parametrize("estimator", [Backprop, FirstOrder])
def test_meta_sgd_rate_gradient_is_its_formula(estimator):
    # d L(phi_1) / d alpha = -g_support * d L / d phi_1, element by element. The formula
    # holds to first order too, because the inner gradient does not depend on alpha.
    model, (task, query_y) = dense(), regression(tasks=1)
    inner = InnerLoop("mse", MetaSGD(RATE))
    learned = MAML(model, inner, meta_gradient=estimator())
    _, gradients = learned.compute_meta_gradients((task, query_y))
    with tf.GradientTape() as tape:
        loss = mse(task["support_y"][0], model(task["support_x"][0]))
    support = tape.gradient(loss, model.trainable_variables)
    for variable, g in zip(model.trainable_variables, support):
        variable.assign_sub(RATE * g)
    with tf.GradientTape() as tape:
        loss = mse(query_y[0], model(task["query_x"][0]))
    query = tape.gradient(loss, model.trainable_variables)
    for rate, g, q in zip(gradients[4:], support, query):
        np.testing.assert_allclose(rate, -g * q, rtol=1e-4, atol=1e-6)  # float32


def test_per_step_rate_gradient_of_a_parabola_is_its_formula():
    # L = w^2 / 2: w_2 = w (1 - a_0) (1 - a_1), so d L(w_2) / d a_0 = -w_2 w (1 - a_1).
    model = keras.Sequential([keras.Input([1]), keras.layers.Dense(1, use_bias=False)])
    model.layers[0].kernel.assign([[3.0]])
    inner = InnerLoop(lambda y, p: 0.5 * tf.square(p - y), PerStepSGD(0.0), steps=2)
    learned = MAML(model, inner)
    learned.rule.rates.assign([[0.2], [0.5]])
    one = np.ones([1, 1, 1], "float32")
    task = {"support_x": one, "support_y": 0 * one, "query_x": one}
    _, gradients = learned.compute_meta_gradients((task, 0 * one))
    # w_2 = 3 * 0.8 * 0.5 = 1.2.
    np.testing.assert_allclose(
        gradients[1], [[-1.2 * 3.0 * 0.5], [-1.2 * 3.0 * 0.8]], rtol=1e-5
    )


def test_meta_sgd_uses_each_weights_own_rate():
    rule = MetaSGD(0.0)
    weight = keras.Variable(np.zeros([3], "float32"))
    rule.prepare([weight], 1)
    rule.rates[0].assign([0.0, 1.0, -2.0])
    (updated,), _ = rule.update([tf.zeros([3])], [tf.ones([3])], (), step=0)
    np.testing.assert_array_equal(updated, [0.0, -1.0, 2.0])


def test_per_step_rates_belong_to_layers_and_later_steps_use_the_last():
    model = dense()
    rule = PerStepSGD(0.0)
    rule.prepare(model.trainable_variables, 2)
    assert rule.rates.shape == (2, 2)
    assert [path.rpartition("/")[2] for path in rule.layers] == [
        layer.name for layer in model.layers
    ]
    rule.rates.assign([[1.0, 2.0], [3.0, 4.0]])
    weights = [tf.zeros(v.shape) for v in model.trainable_variables]
    ones = [tf.ones_like(w) for w in weights]
    for step, row in [(0, 0), (1, 1), (2, 1), (9, 1)]:
        updated, _ = rule.update(weights, ones, (), step=step)
        rates = [-float(u.numpy().ravel()[0]) for u in updated]
        assert rates == [[1.0, 1.0, 2.0, 2.0], [3.0, 3.0, 4.0, 4.0]][row]


def test_meta_curvature_multiplies_along_every_axis():
    generator = np.random.default_rng(0)
    kernel = keras.Variable(np.zeros([2, 3, 4, 5], "float32"))
    bias = keras.Variable(np.zeros([5], "float32"))
    rule = MetaCurvature(1.0)
    rule.prepare([kernel, bias], 1)
    places, inputs, outputs = rule.matrices[0]
    assert [m.shape for m in rule.matrices[0]] == [(6, 6), (4, 4), (5, 5)]
    values = [generator.normal(size=m.shape) for m in (places, inputs, outputs)]
    for matrix, value in zip((places, inputs, outputs), values):
        matrix.assign(value)
    gradients = [generator.normal(size=v.shape) for v in (kernel, bias)]
    weights = [tf.zeros(v.shape) for v in (kernel, bias)]
    updated, _ = rule.update(weights, list(map(tf.constant, gradients)), (), step=0)
    folded = gradients[0].reshape(6, 4, 5)
    expected = np.einsum("ax,by,cz,xyz->abc", *values, folded).reshape(2, 3, 4, 5)
    np.testing.assert_allclose(updated[0], -expected, rtol=1e-3, atol=1e-4)  # float32
    np.testing.assert_allclose(updated[1], -gradients[1], rtol=1e-6)


@pytest.mark.parametrize(
    ("shape", "sizes"),
    [
        ([4], [4]),
        ([2, 4], [2, 4]),
        ([3, 2, 4], [3, 2, 4]),
        ([2, 3, 1, 4, 5], [6, 4, 5]),
    ],
)
def test_meta_curvature_joins_the_axes_before_the_last_two(shape, sizes):
    rule = MetaCurvature(1.0)
    rule.prepare([keras.Variable(np.zeros(shape, "float32"))], 1)
    assert [m.shape[0] for m in rule.matrices[0]] == sizes
    ones = tf.ones(shape)
    updated, _ = rule.update([ones], [ones], (), step=0)
    np.testing.assert_array_equal(updated[0], tf.zeros(shape))  # Identity matrices.


def test_layers_with_the_same_name_have_rates_of_their_own():
    variables = []
    for _ in range(3):
        with keras.name_scope("head"):
            for name in ("kernel", "bias"):
                variables.append(keras.Variable(np.zeros([2], "float32"), name=name))
    rule = PerStepSGD(0.1)
    rule.prepare(variables, 1)
    assert list(rule.layers) == ["head", "head-2", "head-3"]


def test_meta_curvature_has_no_matrix_for_a_vocabulary():
    rule = MetaCurvature()
    rule.prepare([keras.Variable(np.zeros([5000, 4], "float32"))], 1)
    rows, columns = rule.matrices[0]
    assert rows is None
    assert columns.shape == (4, 4)


@pytest.mark.graphs
@pytest.mark.journey
@pytest.mark.default_map
@pytest.mark.parametrize("rule", RULES)
def test_learned_variables_are_trained_saved_and_exported(rule, tmp_path):
    model, batch = wrapped(rule), regression()
    model.compile(keras.optimizers.SGD(0.1))
    before = [v.numpy() for v in model.rule.trainable_variables]
    model.fit(*batch, epochs=3, verbose=0)
    after = model.rule.trainable_variables
    assert any(np.abs(a - b).max() > 1e-5 for a, b in zip(after, before))

    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    for a, b in zip(loaded.rule.variables, model.rule.variables):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_allclose(loaded(batch[0]), model(batch[0]), rtol=1e-6)

    model.export(tmp_path / "export")
    saved = tf.saved_model.load(str(tmp_path / "export"))
    one = {k: v[0] for k, v in batch[0].items()}
    got = saved.adapt_and_predict(one["support_x"], one["support_y"], one["query_x"])
    np.testing.assert_allclose(got, model(batch[0])[0], rtol=1e-4, atol=1e-5)
    # A rate that is passed overrides the learned rates.
    other = saved.adapt_and_predict(
        one["support_x"], one["support_y"], one["query_x"], 2, 0.0
    )
    np.testing.assert_allclose(other, saved.serve(one["query_x"]), rtol=1e-5)


@pytest.mark.parametrize("rule", [MetaSGD, PerStepSGD])
def test_rates_can_be_kept_from_turning_negative(rule):
    def lowest(constraint):
        learned = rule(1e-3, constraint=constraint)
        model = MAML(dense(), InnerLoop("mse", learned, steps=2))
        model.compile(keras.optimizers.SGD(1.0))
        model.fit(*regression(), epochs=3, verbose=0)
        return min(float(np.min(v)) for v in model.rule.trainable_variables)

    assert lowest(None) < 0.0
    assert lowest("non_neg") >= 0.0


@pytest.mark.parametrize("rule", RULES)
def test_config_round_trip(rule):
    made = rule(0.3, constraint="non_neg")
    revived = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(made)
    )
    assert type(revived) is rule
    assert revived.learning_rate == 0.3
    assert isinstance(revived.constraint, keras.constraints.NonNeg)


def test_a_rule_belongs_to_one_set_of_shapes():
    rule = MetaSGD(0.1)
    MAML(dense(), InnerLoop("mse", rule))
    with pytest.raises(ValueError, match="Make a new rule, and a new MAML"):
        MAML(dense(units=7), InnerLoop("mse", rule))


@pytest.mark.graphs
def test_more_steps_than_trained_use_the_last_rates(tmp_path):
    # Compared with a rule for five steps whose rows 2 to 5 hold the same rates.
    model, (task, query_y) = dense(), regression()
    short = wrapped(PerStepSGD, model=model)
    rates = np.random.default_rng(0).uniform(0.05, 0.5, short.rule.rates.shape)
    short.rule.rates.assign(rates)
    full = wrapped(PerStepSGD, model=model, steps=5)
    full.rule.rates.assign([rates[0], *[rates[1]] * 4])
    expected = full(task)
    assert not np.allclose(short(task), expected, rtol=1e-3)  # Only two steps.

    one = task["support_x"][0], task["support_y"][0]
    answer = short.adapt(*one, steps=5)(task["query_x"][0])
    np.testing.assert_allclose(answer, expected[0], rtol=1e-5, atol=1e-6)
    curves = [
        evaluate_episodes(m, [(task, query_y)], steps=5, verbose=0).curve
        for m in (short, full)
    ]
    np.testing.assert_allclose(*curves, rtol=1e-5)
    saved = tf.saved_model.load(str(short.export(tmp_path / "export", verbose=0)))
    answer = saved.adapt_and_predict(*one, task["query_x"][0], steps=5)
    np.testing.assert_allclose(answer, expected[0], rtol=1e-5, atol=1e-6)


def test_loss_equals_the_loss_of_a_plain_keras_loop():
    # An independent loop, so that the tests above compare with the truth.
    model, batch = dense(), regression()
    loss, _ = wrapped(MetaSGD, model=model).compute_meta_gradients(batch)
    values = [v.numpy() for v in model.trainable_variables]
    expected = plain_query_loss(model, batch, values, steps=2)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


@pytest.mark.parametrize("rule", [MetaSGD, PerStepSGD, MetaCurvature])
def test_layers_frozen_later_are_refused_for_learned_rules(rule):
    model = dense()
    learner = MAML(model, InnerLoop("mse", rule(RATE)))
    learner.compile("sgd")
    model.layers[0].trainable = False
    with pytest.raises(ValueError, match="Make a new rule, and a new MAML"):
        learner.compile("sgd")
    # The first layer's rates would be paired with the second layer's weights.
    task, query_y = regression()
    with pytest.raises((ValueError, tf.errors.InvalidArgumentError)):
        learner.compute_meta_gradients((task, query_y))

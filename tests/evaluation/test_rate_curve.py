"""One initialisation at many inner rates, against closed forms."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import assert_identical, dense, maml, numpy_variables, regression

import maml_keras as mk
from maml_keras.evaluation import plots


def parabola(start=3.0, rule=None, **kwargs):
    """`L(w) = (w - 1)^2`, so a step of rate r gives `w - 1 <- (1 - 2 r)(w - 1)`."""
    layer = keras.layers.Dense(1, use_bias=False)
    model = keras.Sequential([keras.Input([1]), layer])
    layer.kernel.assign([[start]])
    inner = mk.InnerLoop("mse", rule or mk.SGD(0.1), steps=3)
    return mk.MAML(model, inner, task_map="parallel", **kwargs)


def batch(tasks=4):
    x = np.ones([tasks, 5, 1], "float32")
    return {"support_x": x, "support_y": x, "query_x": x}, x


RATES = [0.01, 0.1, 0.5, 0.9, 20.0]


@pytest.mark.parametrize(
    "rule", [mk.SGD(0.1), mk.MetaSGD(0.1), mk.ClipByNorm(mk.SGD(0.1), 1e6)]
)
def test_losses_are_those_of_the_closed_form(rule):
    curve = mk.rate_curve(parabola(rule=rule), [batch()], rates=RATES[::-1], verbose=0)
    assert curve.rates == RATES
    for rate, means in zip(RATES[:-1], curve.means):
        expected = [4.0 * (1 - 2 * rate) ** (2 * k) for k in range(4)]
        np.testing.assert_allclose(means, expected, rtol=1e-4, atol=1e-9)  # float32
    assert curve.best() == curve.best(1) == 0.5
    np.testing.assert_array_equal(curve.diverged[:-1], 0)
    # Each step multiplies the distance by 39, and so the loss by 1,521.
    np.testing.assert_array_equal(curve.diverged[-1], [0, 4, 4, 4])


def test_all_rates_see_the_same_tasks_in_one_trace_and_the_model_stays():
    model = maml(dense(), task_map="parallel")
    before = numpy_variables(model)
    traces, seen = [], []

    def loss(y, p):
        traces.append(1)
        return tf.reduce_mean(tf.square(y - p), axis=-1)

    def stream():
        for seed in range(100):
            seen.append(seed)
            yield regression(tasks=4, seed=seed)

    curve = mk.rate_curve(
        model, stream(), rates=[0.1, 0.2, 0.3], num_tasks=8, metric=loss, verbose=0,
        higher_is_better=False,
    )  # fmt: skip
    assert seen == [0, 1]
    # The metric is traced once for each step, and for no second rate.
    assert len(traces) == model.inner.steps + 1
    starts = [result.per_episode[:, 0] for result in curve.results.values()]
    np.testing.assert_array_equal(starts[0], starts[2])
    assert_identical(before, numpy_variables(model))


def test_the_rule_keeps_its_own_rate_without_another_one():
    model = maml(dense(), task_map="parallel")
    own = mk.evaluate_episodes(model, [regression()], verbose=0)
    given = mk.rate_curve(model, [regression()], rates=[0.1], verbose=0)
    assert model.rule.fixed_rate == 0.1
    (same,) = given.results.values()
    np.testing.assert_allclose(same.curve, own.curve, rtol=1e-6)
    assert "inner rate" not in str(own)
    assert "inner rate: 0.1)" in str(same)
    assert same.summary()["rate"] == 0.1


def test_the_default_rates_lie_around_the_rules_own():
    rates = mk.rate_curve(parabola(), [batch()], num_tasks=2, verbose=0).rates
    assert len(rates) == 20
    assert (rates[0], rates[-1]) == (0.001, 10.0)
    learned = mk.rate_curve(parabola(rule=mk.MetaSGD(0.1)), [batch()], verbose=0)
    assert (learned.rates[0], learned.rates[-1]) == (1e-4, 1.0)
    assert learned.own_rate is None


@pytest.mark.parametrize("rates", [[], [0.1, 0.1], [0.0], [-1.0], [float("nan")]])
def test_rates_that_are_none_are_refused(rates):
    with pytest.raises(ValueError, match="`rates` must be finite numbers above 0"):
        mk.rate_curve(parabola(), [batch()], rates=rates)


def test_a_metric_of_unknown_direction_has_no_best_rate():
    def spread(y, p):
        return tf.reduce_mean(y - p, axis=-1)

    curve = mk.rate_curve(parabola(), [batch()], rates=RATES, metric=spread, verbose=0)
    with pytest.raises(ValueError, match="whether a higher spread is better"):
        curve.best()


def test_the_table_and_the_picture_show_each_rate_and_what_diverged(
    tmp_path, monkeypatch
):
    pytest.importorskip("matplotlib")
    figures = []
    saved = plots.saved
    monkeypatch.setattr(
        plots,
        "saved",
        lambda figure, path: figures.append(figure) or saved(figure, path),
    )
    curve = mk.rate_curve(parabola(), [batch()], rates=RATES, verbose=0)
    lines = curve.table().splitlines()
    assert lines[0].split()[:3] == ["rate", "step", "0"]
    assert [float(line.split()[0]) for line in lines[1:]] == RATES
    assert lines[-1].split()[-1] == "4"
    assert curve.plot(tmp_path / "rates.png").read_bytes().startswith(b"\x89PNG")
    above, below = figures[0].axes
    said = [text.get_text() for text in above.get_legend().get_texts()]
    assert said == [
        "before adaptation",
        "after 1 step",
        "after 2 steps",
        "after 3 steps",
        "the rule's own",
    ]
    np.testing.assert_allclose(above.lines[1].get_ydata(), curve.means[:, 1])
    assert above.get_xscale() == above.get_yscale() == "log"
    assert below.get_ylabel() == "share diverged"

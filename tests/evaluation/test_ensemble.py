"""The ensemble of linear models against an average by hand."""

import keras
import numpy as np
import pytest

import maml_keras as mk

pytestmark = pytest.mark.usefixtures("without_graphs")

RATE = 0.3


def softmax(logits):
    e = np.exp(logits - logits.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def linear(weights, loss):
    inputs, outputs = weights.shape
    layer = keras.layers.Dense(outputs, use_bias=False)
    model = keras.Sequential([keras.Input([inputs]), layer])
    layer.set_weights([weights])
    return mk.MAML(model, mk.InnerLoop(loss, mk.SGD(RATE)), task_map="sequential")


def logits_loss():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize("steps", [0, 1])
def test_the_ensemble_is_the_mean_of_probabilities_by_hand(steps, rng):
    starts = rng.normal(size=[3, 4, 3]).astype("float32")
    x = rng.normal(size=[5, 6, 4]).astype("float32")
    y = rng.integers(0, 3, [5, 6]).astype("int32")
    query_x = rng.normal(size=[5, 20, 4]).astype("float32")
    query_y = rng.integers(0, 3, [5, 20]).astype("int32")
    batch = {"support_x": x, "support_y": y, "query_x": query_x}, query_y
    mamls = [linear(start, logits_loss()) for start in starts]
    found = mk.evaluate_ensemble(mamls, [batch], steps=steps, verbose=0)

    def adapted(start, task):
        if not steps:
            return start
        error = softmax(x[task] @ start) - np.eye(3)[y[task]]
        return start - RATE * x[task].T @ error / len(error)

    rows = np.array(
        [
            [softmax(query_x[t] @ adapted(start, t)) for t in range(5)]
            for start in starts
        ]
    )
    for probabilities, one in zip([*rows, rows.mean(0)], [*found.members, found.mean]):
        right = probabilities.argmax(-1) == query_y
        np.testing.assert_allclose(one.per_episode[:, -1], right.mean(-1), atol=1e-6)
        truth = np.eye(3)[query_y]
        brier = np.square(probabilities - truth).sum(-1).mean()
        assert one.calibration.brier() == pytest.approx(brier, rel=1e-4)
        nll = -np.log((probabilities * truth).sum(-1)).mean()
        assert one.calibration.nll() == pytest.approx(nll, rel=1e-4)
    # The mean of probabilities is never worse in likelihood than the average member.
    average = np.mean([one.calibration.nll() for one in found.members])
    assert found.mean.calibration.nll() < average
    gain = found.mean.mean - np.mean([one.mean for one in found.members])
    assert found.gain()[0] == pytest.approx(gain, abs=1e-6)
    # Its loss is that of the mean of probabilities, although the loss takes logits.
    loss = mk.evaluate_ensemble(mamls, [batch], steps=steps, metric="loss", verbose=0)
    assert loss.mean.mean == pytest.approx(found.mean.calibration.nll(), rel=1e-4)
    # Each member is as if it were evaluated alone.
    alone = mk.evaluate_episodes(mamls[1], [batch], steps=steps, verbose=0)
    np.testing.assert_array_equal(alone.per_episode, found.members[1].per_episode)
    assert found.table().count("\n") == 5
    assert "ensemble of 3, the mean of their probabilities: accuracy" in str(found)
    assert set(found.summary()) == {"members", "ensemble", "gain"}


def test_regression_averages_predictions():
    mamls = [linear(np.array([[w]], "float32"), "mse") for w in (1.0, 4.0)]
    x = np.ones([2, 3, 1], "float32")
    batch = {"support_x": x, "support_y": 2 * x, "query_x": x}, 2 * x
    found = mk.evaluate_ensemble(mamls, [batch], steps=0, verbose=0)
    assert [one.mean for one in found.members] == [1.0, 4.0]
    assert found.mean.mean == pytest.approx((2.5 - 2.0) ** 2)
    assert found.mean.calibration is None
    assert "mean of their predictions" in str(found)


def test_binary_outputs_are_averaged_as_probabilities():
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    mamls = [linear(np.array([[w]], "float32"), loss) for w in (3.0, -1.0)]
    x, y = np.ones([2, 3, 1], "float32"), np.ones([2, 3, 1], "float32")
    batch = {"support_x": x, "support_y": y, "query_x": x}, y
    found = mk.evaluate_ensemble(mamls, [batch], steps=0, verbose=0)
    mean = (1 / (1 + np.exp(-3.0)) + 1 / (1 + np.exp(1.0))) / 2
    assert found.mean.calibration.nll() == pytest.approx(-np.log(mean), rel=1e-5)
    assert found.mean.mean == pytest.approx(-np.log(mean), rel=1e-4)  # The loss.


def test_members_that_do_not_fit_are_refused(rng):
    start = rng.normal(size=[4, 3]).astype("float32")
    x, y = np.ones([2, 3, 4], "float32"), np.zeros([2, 3], "int32")
    batch = [({"support_x": x, "support_y": y, "query_x": x}, y)]
    one = linear(start, logits_loss())
    with pytest.raises(ValueError, match="at least two models. Received: 1"):
        mk.evaluate_ensemble([one], batch)
    other = linear(start, keras.losses.SparseCategoricalCrossentropy())
    with pytest.raises(ValueError, match="must have the same outer loss"):
        mk.evaluate_ensemble([one, other], batch)
    wide = linear(rng.normal(size=[4, 5]).astype("float32"), logits_loss())
    with pytest.raises(ValueError, match="must have outputs of the same shapes"):
        mk.evaluate_ensemble([one, wide], batch, steps=0, verbose=0)

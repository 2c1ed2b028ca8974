"""`AdaptationCurves` writes to TensorBoard and to the epoch's logs."""

import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import maml_keras as mk

pytestmark = pytest.mark.journey


def test_adaptation_curves_equal_those_of_evaluate_episodes(tmp_path):
    family = mk.data.Sinusoid(shots=5, queries=5)
    fixed = mk.data.episodes(family, batch_size=10, seed=2, num_episodes=20)
    maml = mk.MAML(mk.models.mlp(hidden=[8]), mk.InnerLoop("mse", mk.SGD(0.01)))
    maml.compile("adam")
    curves = mk.AdaptationCurves(fixed, tmp_path, steps=3, num_tasks=20, every=2)
    history = maml.fit(
        mk.data.episodes(family, batch_size=4, seed=1),
        steps_per_epoch=5,
        epochs=4,
        verbose=0,
        callbacks=[curves],
    )
    expected = mk.evaluate_episodes(maml, fixed, steps=3, num_tasks=20, verbose=0)
    events = EventAccumulator(str(tmp_path / "adaptation"))
    events.Reload()
    tags = [f"adaptation/loss/step_{k}" for k in range(4)]
    assert set(events.Tags()["tensors"]) == {*tags, "adaptation/diverged"}
    for tag, value in zip(tags, expected.curve):
        points = events.Tensors(tag)
        assert [point.step for point in points] == [10, 20]  # Every second epoch.
        last = float(tf.make_ndarray(points[-1].tensor_proto))
        np.testing.assert_allclose(last, value, rtol=1e-5)  # float32
    np.testing.assert_allclose(
        history.history["adapted_loss"][-1], expected.mean, rtol=1e-6
    )


def test_a_period_of_zero_epochs_is_refused(tmp_path):
    with pytest.raises(ValueError, match="`every` must be positive"):
        mk.AdaptationCurves([], tmp_path, every=0)


@pytest.mark.parametrize("make", [mk.AdaptationCurves, lambda e, d: mk.Watch(d, e)])
def test_episodes_that_can_be_drawn_once_are_refused(make, tmp_path):
    with pytest.raises(ValueError, match="`episodes` must be a dataset or a list"):
        make(iter([]), tmp_path)

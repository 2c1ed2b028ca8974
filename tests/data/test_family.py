"""Task families: what a family of your own must provide."""

import numpy as np
import pytest
import tensorflow as tf

from maml_keras.data import TaskFamily, episodes


class FromPython(TaskFamily):
    """A family that draws its tasks in Python instead of TensorFlow."""

    def __init__(self, draw):
        self.draw = draw

    def sample(self, seed):
        x = tf.constant(self.draw(seed), tf.float32)
        return {"support_x": x, "support_y": x, "query_x": x}, x


@pytest.mark.parametrize(
    ("draw", "error", "message"),
    [
        (
            lambda s: np.random.default_rng(s).normal(size=[5, 1]),
            TypeError,
            "SeedSequence",
        ),
        (lambda s: np.random.default_rng(int(s[0])).normal(size=[5, 1]), TypeError, ""),
        (lambda s: np.full([5, 1], s.numpy()[0]), TypeError, "AttributeError"),
        # NumPy draws once, during tracing: all tasks would be the same.
        (lambda s: np.random.normal(size=[5, 1]), ValueError, "does not read `seed`"),
    ],
    ids=["array", "int", "numpy", "unread"],
)
def test_a_family_that_draws_outside_tensorflow_is_refused(draw, error, message):
    pattern = rf"(?s)`FromPython.sample` must .*{message}.*stateless.*PyDataset"
    with pytest.raises(error, match=pattern):
        episodes(FromPython(draw), batch_size=2, seed=0)


class Stub(TaskFamily):
    def sample(self, seed):
        raise NotImplementedError


def test_a_family_whose_method_is_not_implemented_is_refused():
    with pytest.raises(TypeError, match=r"Received: NotImplementedError\. The method"):
        episodes(Stub(), batch_size=2, seed=0)

"""Joint training finds the best answer for all tasks together."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import maml_keras as mk
from maml_keras.experiments.pretraining import train_jointly

pytestmark = pytest.mark.journey


class Constants(mk.data.TaskFamily):
    """y = 1 in one half of the tasks and y = 3 in the other."""

    def sample(self, seed):
        draw = tf.random.stateless_uniform([], seed)
        y = tf.fill([4, 1], tf.where(draw < 0.5, 1.0, 3.0))
        x = tf.ones([4, 1])
        return {"support_x": x, "support_y": y, "query_x": x}, y


def test_joint_training_finds_the_mean_over_tasks():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input([1]), keras.layers.Dense(1, use_bias=False)])
    episodes = mk.data.episodes(Constants(), batch_size=64, seed=1)
    train_jointly(model, "mse", episodes, iterations=400, learning_rate=0.05, verbose=0)
    # The least squares answer is 2. The random halves of a batch of 64 tasks keep the
    # result within 0.25 of it.
    np.testing.assert_allclose(model.predict(np.ones([1, 1]), verbose=0), 2, atol=0.25)


def test_joint_training_takes_the_given_number_of_steps():
    model = keras.Sequential([keras.Input([1]), keras.layers.Dense(1)])
    episodes = mk.data.episodes(Constants(), batch_size=2, seed=1)
    train_jointly(model, "mse", episodes, iterations=130, verbose=0)
    assert int(model.optimizer.iterations) == 130

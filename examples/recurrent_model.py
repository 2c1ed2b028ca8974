"""Your own recurrent model: an LSTM that learns how fast a memory fades.

The target of a sequence of 8 random numbers is a weighted sum, in which older numbers
count less: `y = sum_t decay^(8-t) x_t`. Each task has its own decay, between -0.9 and
0.9. The model must find the decay from eight sequences.

    python examples/recurrent_model.py    # half a minute
"""

import argparse
from typing import Any

import keras
import tensorflow as tf

import maml_keras as mk


class Fading(mk.data.TaskFamily):
    """Sequences `[examples, 8, 1]` and their fading sums `[examples, 1]`."""

    def sample(self, seed: Any) -> Any:
        """One task: 8 support and 16 query sequences."""
        decay = tf.random.stateless_uniform([], tf.random.fold_in(seed, 1), -0.9, 0.9)
        x = tf.random.stateless_normal([24, 8, 1], seed)
        y = tf.zeros([24, 1])
        for t in range(8):
            y = decay * y + x[:, t]
        return {"support_x": x[:8], "support_y": y[:8], "query_x": x[8:]}, y[8:]


def main(arguments: list[str] | None = None) -> dict[str, mk.Evaluation]:
    """Trains and evaluates; returns the evaluations by name."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--meta-steps", type=int, default=500)
    options = parser.parse_args(arguments)
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input([8, 1]), keras.layers.LSTM(24), keras.layers.Dense(1)]
    )
    maml = mk.MAML(model, mk.InnerLoop("mse", mk.SGD(0.1), steps=2))
    new = mk.data.episodes(Fading(), batch_size=50, seed=2)
    how = {"steps": 5, "num_tasks": 200, "verbose": 0}
    results = {"before meta-training": mk.evaluate_episodes(maml, new, **how)}
    maml.compile(keras.optimizers.Adam(3e-3))
    episodes = mk.data.episodes(Fading(), batch_size=8, seed=1)
    maml.fit(episodes, steps_per_epoch=options.meta_steps, verbose=2)
    results["after meta-training"] = mk.evaluate_episodes(maml, new, **how)
    for name, result in results.items():
        print(f"\n{name}, on new tasks:\n{result.table()}")
    return results


if __name__ == "__main__":
    main()

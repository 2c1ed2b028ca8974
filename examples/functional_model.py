"""Your own functional model with two named inputs, and your own tasks.

Each task has two sinusoids, a left one and a right one. The inputs of an example are
its place (`x`) and its side (`side`). Each input has its own first layer.

    python examples/functional_model.py    # half a minute
"""

import argparse
from typing import Any

import keras
import tensorflow as tf

import maml_keras as mk


class TwoWaves(mk.data.TaskFamily):
    """`y = amplitude[side] * sin(x - phase[side])`."""

    def sample(self, seed: Any) -> Any:
        """One task: 20 support and 20 query examples."""
        seeds = [tf.random.fold_in(seed, i) for i in range(4)]
        x = tf.random.stateless_uniform([40, 1], seeds[0], -3.0, 3.0)
        right = tf.random.stateless_uniform([40], seeds[1], 0, 2, tf.int32)
        amplitude = tf.random.stateless_uniform([2], seeds[2], 0.5, 3.0)
        phase = tf.random.stateless_uniform([2], seeds[3], 0.0, 3.1)
        wave = tf.sin(x[:, 0] - tf.gather(phase, right))
        y = (tf.gather(amplitude, right) * wave)[:, None]
        inputs = {"x": x, "side": tf.one_hot(right, 2)}
        support, query = (
            {name: values[part] for name, values in inputs.items()}
            for part in (slice(20), slice(20, 40))
        )
        return {"support_x": support, "support_y": y[:20], "query_x": query}, y[20:]


def network() -> keras.Model:
    """Two inputs, one output."""
    x, side = keras.Input([1], name="x"), keras.Input([2], name="side")
    where = keras.layers.Dense(32, activation="relu")(x)
    which = keras.layers.Dense(32)(side)
    hidden = keras.layers.Concatenate()([where, which])
    hidden = keras.layers.Dense(64, activation="relu")(hidden)
    hidden = keras.layers.Dense(64, activation="relu")(hidden)
    return keras.Model({"x": x, "side": side}, keras.layers.Dense(1)(hidden))


def main(arguments: list[str] | None = None) -> dict[str, mk.Evaluation]:
    """Trains and evaluates; returns the evaluations by name."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--meta-steps", type=int, default=2000)
    options = parser.parse_args(arguments)
    keras.utils.set_random_seed(0)
    maml = mk.MAML(network(), mk.InnerLoop("mse", mk.SGD(0.05), steps=2))
    new = mk.data.episodes(TwoWaves(), batch_size=100, seed=2)
    how = {"steps": 5, "num_tasks": 200, "verbose": 0}
    results = {"before meta-training": mk.evaluate_episodes(maml, new, **how)}
    maml.compile("adam")
    episodes = mk.data.episodes(TwoWaves(), batch_size=16, seed=1)
    maml.fit(episodes, steps_per_epoch=options.meta_steps, verbose=2)
    results["after meta-training"] = mk.evaluate_episodes(maml, new, **how)
    for name, result in results.items():
        print(f"\n{name}, on new tasks:\n{result.table()}")
    return results


if __name__ == "__main__":
    main()

"""Your own subclassed model with residual blocks, and a check of its meta-gradient.

The model is an ordinary `keras.Model` with its own `call`. The script calls the model
once, so that its weights exist. `check_meta_gradient` compares the meta-gradient with
finite differences. Then the model learns sinusoids.

    python examples/subclassed_model.py    # half a minute
"""

import argparse
from typing import Any

import keras
import numpy as np

import maml_keras as mk


class Residual(keras.Model):
    """`h <- h + block(h)` on 40 features, twice."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.lift = keras.layers.Dense(40, activation="tanh")
        self.blocks = [keras.layers.Dense(40, activation="tanh") for _ in range(2)]
        self.head = keras.layers.Dense(1)

    def call(self, x: Any) -> Any:
        h = self.lift(x)
        for block in self.blocks:
            h = h + block(h)
        return self.head(h)


def main(arguments: list[str] | None = None) -> dict[str, mk.Evaluation]:
    """Checks, trains and evaluates; returns the evaluations by name."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--meta-steps", type=int, default=2500)
    options = parser.parse_args(arguments)
    keras.utils.set_random_seed(0)
    model = Residual()
    model(np.zeros([1, 1], "float32"))
    maml = mk.MAML(model, mk.InnerLoop("mse", mk.SGD(0.01), steps=2))

    batch = next(iter(mk.data.episodes(mk.data.Sinusoid(), batch_size=4, seed=3)))
    checks = [c for c in mk.check_meta_gradient(maml, batch) if c.decided]
    worst = max(checks, key=lambda check: check.error)
    print(f"{len(checks)} weights checked, largest relative error {worst.error:.1e}")

    new = mk.data.episodes(mk.data.Sinusoid(), batch_size=100, seed=2)
    how = {"steps": 5, "num_tasks": 200, "verbose": 0}
    results = {"before meta-training": mk.evaluate_episodes(maml, new, **how)}
    maml.compile("adam")
    episodes = mk.data.episodes(mk.data.Sinusoid(), batch_size=25, seed=1)
    maml.fit(episodes, steps_per_epoch=options.meta_steps, verbose=2)
    results["after meta-training"] = mk.evaluate_episodes(maml, new, **how)
    for name, result in results.items():
        print(f"\n{name}, on new sinusoids:\n{result.table()}")
    return results


if __name__ == "__main__":
    main()

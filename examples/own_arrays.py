"""Few-shot classification of your own arrays.

The arrays are images of stripes with noise. A class is a direction and a width of the
stripes, whose position varies. Classes are split, so that the network is tested on new
stripes, from one example of each class.

    python examples/own_arrays.py    # half a minute
"""

import argparse

import keras
import numpy as np

import maml_keras as mk


def stripes(classes: int, images: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Images `[n, 16, 16, 1]` in [0, 1] and their class numbers `[n]`."""
    generator = np.random.default_rng(seed)
    angle = generator.uniform(0, np.pi, classes)
    waves = generator.uniform(1.5, 4.0, classes)
    row, column = np.mgrid[:16, :16] / 16
    y = np.repeat(np.arange(classes), images)
    along = np.cos(angle[y])[:, None, None] * column + (
        np.sin(angle[y])[:, None, None] * row
    )
    shift = generator.uniform(0, 1, [len(y), 1, 1])
    x = np.sin(2 * np.pi * (waves[y][:, None, None] * along + shift)) / 2 + 0.5
    return (x + generator.normal(0, 0.2, x.shape)).astype("float32")[..., None], y


def main(arguments: list[str] | None = None) -> dict[str, mk.Evaluation]:
    """Trains and evaluates; returns the evaluations by name."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--meta-steps", type=int, default=300)
    options = parser.parse_args(arguments)
    keras.utils.set_random_seed(0)

    x, y = stripes(classes=60, images=20, seed=0)
    pool = mk.data.from_arrays(x, y)
    train, _, test = mk.data.split_classes(pool, train=40, validation=0, test=20)
    tasks, new_tasks = (
        mk.data.NWayKShot(part, ways=5, shots=1, queries=10) for part in (train, test)
    )

    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model = mk.models.conv4(ways=5, shape=(16, 16, 1), filters=16)
    maml = mk.MAML(model, mk.InnerLoop(loss, mk.SGD(0.4), steps=1))

    def measured() -> mk.Evaluation:
        new = mk.data.episodes(new_tasks, batch_size=50, seed=2)
        return mk.evaluate_episodes(maml, new, steps=3, num_tasks=200)

    results = {"before meta-training": measured()}
    maml.compile(keras.optimizers.Adam(3e-3), metrics=["accuracy"])
    episodes = mk.data.episodes(tasks, batch_size=8, seed=1)
    maml.fit(episodes, steps_per_epoch=options.meta_steps, verbose=2)
    results["after meta-training"] = measured()
    for name, result in results.items():
        print(f"\n{name}, on classes it has never seen:\n{result.table()}")
    return results


if __name__ == "__main__":
    main()

"""A pretrained network learns new classes through low-rank adapters.

Pretrains a network on 40 classes in the ordinary way, or loads a saved one
(`--network`). Freezes it and puts thin matrices beside its kernels. Only these matrices
and a new head of five outputs are meta-learned and adapt. Tests on classes that neither
stage has seen.

    python examples/pretrained_adapters.py    # half a minute
"""

import argparse

import keras
import numpy as np

import maml_keras as mk

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def spectra(classes: int, examples: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Spectra `[n, 64]` with three peaks for each class, random strengths and noise."""
    generator = np.random.default_rng(seed)
    place = generator.uniform(0, 64, [classes, 3])
    y = np.repeat(np.arange(classes), examples)
    strength = generator.uniform(0.3, 1.5, [len(y), 3])
    distance = np.arange(64)[None, :, None] - place[y][:, None]
    x = (strength[:, None] * np.exp(-((distance / 2.5) ** 2))).sum(-1)
    return (x + generator.normal(0, 0.15, x.shape)).astype("float32"), y


def classifier(x: np.ndarray, y: np.ndarray, epochs: int) -> keras.Model:
    """A network that tells the first 40 classes apart, in place of your own network."""
    inputs = keras.Input([64])
    hidden = keras.layers.Dense(128, activation="relu")(inputs)
    hidden = keras.layers.Dense(128, activation="relu")(hidden)
    model = keras.Model(inputs, keras.layers.Dense(40)(hidden))
    model.compile("adam", LOSS, metrics=["accuracy"])
    model.fit(x, y, epochs=epochs, verbose=2)
    return model


def main(arguments: list[str] | None = None) -> dict[str, mk.Evaluation]:
    """Pretrains, meta-learns, evaluates; returns the evaluations by name."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=10, help="pretraining epochs")
    parser.add_argument("--meta-steps", type=int, default=600)
    parser.add_argument("--network", help="a saved .keras classifier of 64 numbers")
    options = parser.parse_args(arguments)
    keras.utils.set_random_seed(0)
    x, y = spectra(classes=80, examples=40, seed=0)

    if options.network:
        pretrained = keras.saving.load_model(options.network)
    else:
        known = y < 40
        pretrained = classifier(x[known], y[known], options.epochs)

    # Keep the features, add a fresh head for five classes, and adapters.
    features = pretrained.layers[-2].output
    head = keras.layers.Dense(5, name="head")(features)
    five = keras.Model(pretrained.inputs, head)
    adapted = mk.with_low_rank_adapters(five, rank=4, layers=lambda d: d.name != "head")
    adapted.get_layer("head").trainable = True
    learned = sum(v.numpy().size for v in adapted.trainable_variables)
    print(f"{learned:,} of {five.count_params():,} weights are learned")

    # Meta-learning uses classes 40 to 59, tests use classes 60 to 79.
    parts = {"meta-training": (40, 60), "test": (60, 80)}
    tasks = {}
    for name, (low, high) in parts.items():
        chosen = (low <= y) & (y < high)
        pool = mk.data.from_arrays(x[chosen], y[chosen] - low)
        tasks[name] = mk.data.NWayKShot(pool, ways=5, shots=1, queries=10)
    maml = mk.MAML(adapted, mk.InnerLoop(LOSS, mk.MetaSGD(0.1), steps=3))
    new = mk.data.episodes(tasks["test"], batch_size=50, seed=2)
    how = {"num_tasks": 200, "verbose": 0}
    results = {"before meta-training": mk.evaluate_episodes(maml, new, **how)}
    maml.compile(keras.optimizers.Adam(3e-3), metrics=["accuracy"])
    episodes = mk.data.episodes(tasks["meta-training"], batch_size=8, seed=1)
    maml.fit(episodes, steps_per_epoch=options.meta_steps, verbose=2)
    results["after meta-training"] = mk.evaluate_episodes(maml, new, **how)
    for name, result in results.items():
        print(f"\n{name}, on classes it has never seen:\n{result.table()}")
    return results


if __name__ == "__main__":
    main()

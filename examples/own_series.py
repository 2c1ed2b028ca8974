"""Your own series of unequal length: whose voice is it, from one vowel of each speaker?

With the package aeon installed, the data are the Japanese Vowels (Kudo, Toyama and
Shimbo, CC-BY 4.0), which aeon brings along: 640 recordings of nine speakers, 7 to 29
steps of 12 channels. Without aeon, drawn waves stand in: 20 speakers, each with its own
way in which three channels follow two waves. Speakers of the test tasks are not in the
training tasks. The script ends with the answer of TensorFlow alone to new series, from
the export.

    python examples/own_series.py          # half a minute for each of three seeds
"""

import argparse
import importlib.util
import math
import pathlib
from typing import Any

import keras
import numpy as np
from own_data_parts import alone

import maml_keras as mk

WAYS, SHOTS, QUERIES = 3, 1, 10


def recordings() -> tuple[list[Any], list[str], str]:
    """Series `[time, channels]`, their speakers, and where they are from."""
    if importlib.util.find_spec("aeon") is not None:
        from aeon.datasets import load_japanese_vowels

        x, y = load_japanese_vowels()
        return [series.T for series in x], [f"speaker {label}" for label in y], "aeon"
    generator = np.random.default_rng(0)
    series, speakers = [], []
    for speaker in range(20):
        voice = generator.normal(size=[2, 3])
        for _ in range(30):
            time = np.arange(generator.integers(10, 30))[:, None]
            waves = np.sin([0.5, 0.9] * time + generator.uniform(0, 2 * np.pi, size=2))
            noise = generator.normal(0, 0.3, size=[len(time), 3])
            series.append(np.tanh(waves @ voice) + noise)
            speakers.append(f"speaker {speaker}")
    return series, speakers, "drawn, because aeon is not installed"


def nearest_mean(episodes: Any) -> str:
    """Accuracy of the support series with the nearest mean and deviation over time."""
    right = []
    for task, query_y in episodes.as_numpy_iterator():
        support, queries = (features(task[f"{p}_x"]) for p in ("support", "query"))
        distance = np.linalg.norm(queries[:, :, None] - support[:, None], axis=-1)
        nearest = np.argmin(distance, axis=2)
        guesses = np.take_along_axis(task["support_y"], nearest, axis=1)
        right.append((guesses == query_y).mean(axis=1))
    each = np.concatenate(right)
    half = 1.96 * each.std(ddof=1) / math.sqrt(len(each))
    return f"{each.mean():.1%} ± {half:.1%}"


def features(x: Any) -> Any:
    """Mean and deviation of each channel over the steps that are no padding."""
    there = (x != 0).any(axis=-1, keepdims=True)
    count = there.sum(axis=-2)
    mean = x.sum(axis=-2) / count
    square = (x**2).sum(axis=-2) / count
    return np.concatenate([mean, np.sqrt(np.maximum(square - mean**2, 0))], axis=-1)


def network(channels: int) -> keras.Model:
    """Layers for each step, and the mean over the steps that are no padding."""
    layers = [
        keras.layers.Masking(0.0),
        keras.layers.Dense(64, activation="relu"),
        keras.layers.Dense(64, activation="relu"),
        keras.layers.GlobalAveragePooling1D(),
        keras.layers.Dense(WAYS),
    ]
    return keras.Sequential([keras.Input([None, channels]), *layers])


def main(arguments: list[str] | None = None) -> dict[str, mk.Evaluation]:
    """Trains, compares, exports and answers; returns the last seed's evaluations."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--meta-steps", type=int, default=1500)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/series"))
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    series, speakers, source = recordings()

    # From series to episodes.
    pool = mk.data.from_series(series, speakers)
    train, _, test = mk.data.split_classes(pool, train=0.6, validation=0, test=None)
    sizes = {"ways": WAYS, "shots": SHOTS, "queries": QUERIES}
    tasks = mk.data.NWayKShot(train, **sizes)
    new_tasks = mk.data.NWayKShot(test, **sizes)

    print(f"{pool} ({source})")
    new = mk.data.episodes(new_tasks, batch_size=50, seed=2, num_episodes=200)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    for seed in range(options.seeds):
        keras.utils.set_random_seed(seed)
        model = network(pool.examples.shape[-1])
        mk.data.check_padding(model, pool)
        maml = mk.MAML(model, mk.InnerLoop(loss, mk.SGD(0.2), steps=3))
        results = {"before meta-training": mk.evaluate_episodes(maml, new, verbose=0)}
        maml.compile(keras.optimizers.Adam(3e-3), metrics=["accuracy"])
        episodes = mk.data.episodes(tasks, batch_size=8, seed=1)
        maml.fit(episodes, steps_per_epoch=options.meta_steps, verbose=2)
        results["after meta-training"] = mk.evaluate_episodes(maml, new, verbose=0)
        for name, result in results.items():
            print(f"\nseed {seed}, {name}, on new speakers:\n{result.table()}")
    print(f"\nnearest mean over time, on the same tasks: {nearest_mean(new)}")

    maml.export(options.out / "export", verbose=0)
    task, query_y = new_tasks.sample([0, 1])
    known = task["support_x"], task["support_y"]
    answers = alone.classes(options.out / "export", *known, task["query_x"][:5])
    print(f"\nspeakers of five new series, by TensorFlow alone: {answers}")
    print(f"the true ones: {query_y[:5].numpy().tolist()}")
    return results


if __name__ == "__main__":
    main()

"""Watch a network learn to read new scripts: images, without a download.

Draws the characters of six scripts from matplotlib's fonts. Trains on four of them, and
tests on Georgian and Hebrew: five new characters, one drawing of each to learn from.
Beside the network stand its untrained self and the nearest drawing, pixel by pixel.

    python examples/demo_images.py               # 1 minute
"""

import argparse
import math
import pathlib
from typing import Any

import keras
import numpy as np

import maml_keras as mk
from maml_keras.evaluation import plot_task

TRAINING = ["Armenian", "Cyrillic", "Greek", "Latin"]
TEST = ["Georgian", "Hebrew"]


def nearest_drawing(episodes: Any) -> str:
    """Accuracy of the support drawing with the nearest pixels."""
    right = []
    for task, query_y in episodes.as_numpy_iterator():
        support, queries = (
            task[f"{part}_x"].reshape(*task[f"{part}_x"].shape[:2], -1)
            for part in ("support", "query")
        )
        products = queries @ support.transpose(0, 2, 1)
        distance = (support**2).sum(axis=2)[:, None] - 2 * products
        nearest = np.argmin(distance, axis=2)
        guesses = np.take_along_axis(task["support_y"], nearest, axis=1)
        right.append((guesses == query_y).mean(axis=1))
    each = np.concatenate(right)
    half = 1.96 * each.std(ddof=1) / math.sqrt(len(each))
    return f"{each.mean():.1%} ± {half:.1%}"


def main(arguments: list[str] | None = None) -> dict[str, mk.Evaluation]:
    """Trains, compares, draws and exports; returns the evaluations by name."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--meta-steps", type=int, default=250)
    parser.add_argument("--tasks", type=int, default=200, help="new tasks to test on")
    parser.add_argument(
        "--out", type=pathlib.Path, default=pathlib.Path("runs/demo-images")
    )
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(0)

    pool = mk.data.glyphs(scripts=[*TRAINING, *TEST])
    train, _, test = mk.data.split_classes(
        pool, train=TRAINING, validation=0, test=TEST, by="group"
    )
    print(f"training: {train}\nnew scripts: {test}")
    tasks = mk.data.NWayKShot(train, ways=5, shots=1, queries=5)
    new_tasks = mk.data.NWayKShot(test, ways=5, shots=1, queries=15)
    new = mk.data.episodes(new_tasks, batch_size=20, seed=2, num_episodes=options.tasks)

    model = mk.models.conv4(ways=5, filters=32)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    maml = mk.MAML(model, mk.InnerLoop(loss, mk.SGD(0.4)), batch_norm="support")
    how = {"steps": 3, "verbose": 0}
    results = {"untrained": mk.evaluate_episodes(maml, new, **how)}
    maml.compile(keras.optimizers.Adam(3e-3), metrics=["accuracy"])
    episodes = mk.data.episodes(tasks, batch_size=16, seed=1)
    maml.fit(episodes, steps_per_epoch=options.meta_steps)
    results["MAML"] = mk.evaluate_episodes(maml, new, **how)

    print(f"\naccuracy on {options.tasks} tasks of new scripts, 95% interval")
    for name, result in results.items():
        print(f"{name:>16}  {result}")
    print(f"{'nearest drawing':>16}  {nearest_drawing(new)}")
    task, query_y = new_tasks.sample([0, 1])
    print(f"one task         {plot_task(task, query_y, options.out / 'task.png')}")
    print(f"SavedModel       {maml.export(options.out / 'export', verbose=0)}")
    return results


if __name__ == "__main__":
    main()

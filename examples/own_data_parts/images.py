"""Training, baselines and an export for pools of images of bytes."""

import math
import pathlib
from typing import Any

import keras
import numpy as np
from own_data_parts import alone

import maml_keras as mk

WAYS, SHOTS, QUERIES, TASKS = 5, 1, 5, 100


def with_interval(each: Any) -> str:
    """The mean and its 95% interval over tasks."""
    half = 1.96 * np.std(each, ddof=1) / math.sqrt(len(each))
    return f"{np.mean(each):.1%} ± {half:.1%}"


def nearest(episodes: Any) -> list[float]:
    """Accuracy on each task of the class whose support image is nearest in pixels."""
    right: list[float] = []
    for task, query_y in episodes.as_numpy_iterator():
        for support, labels, queries, truth in zip(
            task["support_x"], task["support_y"], task["query_x"], query_y
        ):
            support, queries = (x.reshape(len(x), -1) for x in (support, queries))
            squares = (support**2).sum(axis=1) - 2.0 * queries @ support.T
            right.append(float((labels[squares.argmin(axis=1)] == truth).mean()))
    return right


def network(shape: tuple[int, ...]) -> keras.Model:
    """Four convolutions with a pooling each; the first makes images 28 pixels wide."""
    layers: list[Any] = [keras.Input(shape)]
    for number in range(4):
        stride = 1 if number else max(1, round(shape[0] / 28))
        layers += [
            keras.layers.Conv2D(32, 3, strides=stride, padding="same"),
            keras.layers.BatchNormalization(),
            keras.layers.ReLU(),
            keras.layers.MaxPooling2D(),
        ]
    layers += [keras.layers.Flatten(), keras.layers.Dense(WAYS)]
    return keras.Sequential(layers)


def run(train: Any, test: Any, options: Any) -> dict[str, Any]:
    """Trains for each seed, compares on new classes, exports, and answers.

    Args:
        train: pool of the training classes, with a preparation.
        test: pool of new classes, with the same preparation.
        options: the script's `meta_steps`, `seeds` and `out`.

    Returns:
        The accuracy on each of 100 tasks of new classes, by method.
    """
    maml, found = trained(train, test, options)
    maml.export(options.out / "export", verbose=0)
    answer(options.out / "export", test)
    return found


def trained(train: Any, test: Any, options: Any) -> tuple[mk.MAML, dict[str, Any]]:
    """Trains for each seed, and compares on new classes.

    Args:
        train: pool of the training classes, with a preparation.
        test: pool of new classes, with the same preparation.
        options: the script's `meta_steps` and `seeds`.

    Returns:
        The last model, and the accuracy on each of 100 tasks of new classes, by method.
    """
    sizes = {"ways": WAYS, "shots": SHOTS, "queries": QUERIES}
    episodes = mk.data.episodes(mk.data.NWayKShot(train, **sizes), batch_size=4, seed=1)
    new = mk.data.episodes(
        mk.data.NWayKShot(test, **sizes), batch_size=4, seed=2, num_episodes=TASKS
    )
    found: dict[str, Any] = {"nearest image": nearest(new)}
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    for seed in range(options.seeds):
        keras.utils.set_random_seed(seed)
        model = network(train.preparation.shape)
        # The export answers one image at a time.
        maml = mk.MAML(model, mk.InnerLoop(loss, mk.SGD(0.4)), batch_norm="inductive")
        if not seed:
            result = mk.evaluate_episodes(maml, new, steps=3, verbose=0)
            found["untrained"] = result.per_episode[:, -1].tolist()
        maml.compile(keras.optimizers.Adam(3e-3), metrics=["accuracy"])
        maml.fit(episodes, steps_per_epoch=options.meta_steps, verbose=2)
        result = mk.evaluate_episodes(maml, new, steps=3, verbose=0)
        found[f"MAML, seed {seed}"] = result.per_episode[:, -1].tolist()

    print(
        f"\naccuracy on {TASKS} tasks of {test.num_classes} new classes, 95% interval"
    )
    for name, each in found.items():
        print(f"{name:>15}  {with_interval(each)}")
    return maml, found


def answer(export: pathlib.Path, test: Any) -> None:
    """Asks TensorFlow alone for the classes of five images of bytes."""
    first = test.offsets[:WAYS]
    known, new = (np.asarray(test.examples[rows]) for rows in (first, first + 1))
    found = alone.classes(export, known, np.arange(WAYS, dtype=np.int32), new)
    print("\nfive new images, as bytes, answered by TensorFlow alone:")
    for name, number in zip(test.class_names, found):
        print(f"{name} looks like {test.class_names[number]}")

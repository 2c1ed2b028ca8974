"""Few-shot classification of your own folder of images, a folder for each class.

First writes a small data set, `shapes/disc_ring/00.png` and so on, with images of
different sizes. Then trains, and learns three new classes from two images each: the
adapted model is an ordinary Keras model. The export goes to a second folder; with it
`maml-keras adapt` learns three classes of yours.

    python examples/own_folder.py                   # makes runs/shapes
    python examples/own_folder.py --folder flowers  # your own: folder/class/image.png
"""

import argparse
import itertools
import pathlib

import keras
import numpy as np

import maml_keras as mk

SHAPES = {  # Positive inside the shape; the coordinates start in the middle.
    "disc": lambda u, v: 0.8 - np.hypot(u, v),
    "square": lambda u, v: 0.7 - np.maximum(abs(u), abs(v)),
    "bar": lambda u, v: np.minimum(0.25 - abs(v), 0.95 - abs(u)),
    "ring": lambda u, v: 0.2 - abs(np.hypot(u, v) - 0.65),
    "cross": lambda u, v: np.minimum(
        0.22 - np.minimum(abs(u), abs(v)), 0.9 - np.maximum(abs(u), abs(v))
    ),
}


def make(folder: pathlib.Path, images: int = 10) -> None:
    """Writes 25 classes: a shape on the left, one on the right, in random colours."""
    generator = np.random.default_rng(0)
    for left, right in itertools.product(SHAPES, SHAPES):
        place = folder / f"{left}_{right}"
        place.mkdir(parents=True, exist_ok=True)
        for i in range(images):
            side = generator.integers(40, 64)
            v, u = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
            image = np.full([side, side, 3], 1.0) * generator.uniform(0.7, 1.0, 3)
            for shape, middle in ((left, -0.5), (right, 0.5)):
                du, dv = generator.uniform(-0.1, 0.1), generator.uniform(-0.5, 0.5)
                scale = generator.uniform(1.9, 2.6)
                ink = SHAPES[shape]((u - middle - du) * scale, (v - dv) * scale) > 0
                image[ink] = generator.uniform(0.0, 0.6, 3)
            keras.utils.save_img(place / f"{i:02d}.png", image * 255, scale=False)


def main(arguments: list[str] | None = None) -> dict[str, float]:
    """Trains and adapts to one new task; returns accuracies by name."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=pathlib.Path)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/shapes"))
    parser.add_argument("--meta-steps", type=int, default=300)
    options = parser.parse_args(arguments)
    keras.utils.set_random_seed(0)
    if options.folder is None:
        make(options.out)
    pool = mk.data.from_folder(options.folder or options.out, size=(28, 28))
    train, _, test = mk.data.split_classes(pool, train=0.75, validation=0, test=0.25)
    tasks, new_tasks = (
        mk.data.NWayKShot(part, ways=3, shots=2, queries=5) for part in (train, test)
    )

    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model = mk.models.conv4(ways=3, shape=(28, 28, 3), filters=16)
    inner = mk.InnerLoop(loss, mk.SGD(0.4), steps=1)
    # The export answers one image at a time, by statistics of the task's examples.
    maml = mk.MAML(model, inner, batch_norm="inductive")
    new = mk.data.episodes(new_tasks, batch_size=50, seed=2)
    how = {"steps": 3, "num_tasks": 200, "verbose": 0}
    untrained = mk.evaluate_episodes(maml, new, **how).mean
    maml.compile(keras.optimizers.Adam(3e-3), metrics=["accuracy"])
    episodes = mk.data.episodes(tasks, batch_size=8, seed=1)
    maml.fit(episodes, steps_per_epoch=options.meta_steps, verbose=2)
    result = mk.evaluate_episodes(maml, new, **how)
    print(f"\nwithout meta-training, after 3 steps: {untrained:.1%}\n{result.table()}")
    export = options.out.with_name(f"{options.out.name}_export")
    maml.export(export)
    print(f"maml-keras adapt {export} --data FOLDER_OF_THREE_CLASSES --steps 3")

    # Adapt to one task of three classes: the result is an ordinary Keras model.
    task, query_y = next(iter(new))
    tuned = maml.adapt(task["support_x"][0], task["support_y"][0], steps=3)
    guesses = tuned.predict(task["query_x"][0], verbose=0).argmax(axis=-1)
    print("true   ", query_y[0].numpy())
    print("guessed", guesses)
    right = float(np.mean(guesses == query_y[0]))
    return {"untrained": untrained, "trained": result.mean, "one task": right}


if __name__ == "__main__":
    main()

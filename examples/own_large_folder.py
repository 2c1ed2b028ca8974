"""A folder of 20,000 images, which stay on disk: few-shot classes in colour.

First writes the images: 100 photos of each of 200 drawn symbols, JPEG files of 84x84
pixels. Each photo has its own hand, tilt, size, place and colours, so that the nearest
image in pixels is hardly ever of the same symbol. Training reads the files that a batch
needs, ahead of the network. Symbols of the test tasks are not in the training. The
script ends with the memory that the training took, and with five new images, as bytes,
that TensorFlow alone answers from the export.

    python examples/own_large_folder.py                  # eight minutes
    python examples/own_large_folder.py --folder photos  # yours: class/image.jpg
"""

import argparse
import itertools
import pathlib
import resource
import sys
from typing import Any

import numpy as np
import tensorflow as tf
from own_data_parts import images

import maml_keras as mk

SIZE = 84


def photo(strokes: Any, generator: np.random.Generator) -> Any:
    """A photo of a symbol, with its own hand, tilt, size, place and colours.

    Args:
        strokes: array `[strokes, 3, 2]` of the points of quadratic curves.
        generator: draws what differs between photos.
    """
    points = strokes + generator.normal(0, 0.02, strokes.shape) - 0.5
    tilt = generator.normal(0, 0.12)
    turn = [[np.cos(tilt), -np.sin(tilt)], [np.sin(tilt), np.cos(tilt)]]
    points = points @ turn * generator.uniform(0.85, 1.15)
    a, b, c = np.moveaxis(points + 0.5 + generator.uniform(-0.08, 0.08, 2), 1, 0)
    t = np.linspace(0, 1, 120)[:, None, None]
    curve = (1 - t) ** 2 * a + 2 * t * (1 - t) * b + t**2 * c
    x, y = np.clip(SIZE * curve.reshape(-1, 2).T, 2, SIZE - 3).astype(int)
    ink = np.zeros([SIZE, SIZE, 1])
    for across, down in itertools.product([-1, 0, 1], repeat=2):
        ink[y + down, x + across] = 1.0
    paper, pen = generator.uniform(0.5, 1, 3), generator.uniform(0, 0.4, 3)
    seen = paper + ink * (pen - paper) + generator.normal(0, 0.08, [SIZE, SIZE, 3])
    return (np.clip(seen, 0, 1) * 255).astype(np.uint8)


def write(folder: pathlib.Path, classes: int, each: int) -> None:
    """Writes a folder of photos for each of some symbols of three strokes."""
    generator = np.random.default_rng(0)
    for number in range(classes):
        place = folder / f"class_{number:03d}"
        place.mkdir(parents=True, exist_ok=True)
        strokes = generator.uniform(0.2, 0.8, [3, 3, 2])
        for i in range(each):
            pixels = photo(strokes, generator)
            file = place / f"{i:03d}.jpg"
            file.write_bytes(tf.io.encode_jpeg(pixels, quality=90).numpy())


def largest_memory() -> float:
    """The largest resident size of this process so far, in megabytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def main(arguments: list[str] | None = None) -> dict[str, list[float]]:
    """Trains, compares, exports and answers; returns the accuracies by method."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=pathlib.Path, help="yours, with class/image")
    parser.add_argument("--classes", type=int, default=200)
    parser.add_argument("--images", type=int, default=100, help="of each class")
    parser.add_argument("--meta-steps", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/large"))
    options = parser.parse_args(arguments)
    folder = options.folder or options.out / "images"
    if options.folder is None:
        write(folder, options.classes, options.images)
    before = largest_memory()

    # From a folder to episodes.
    pool = mk.data.from_folder(folder, size=(SIZE, SIZE), channels=3, lazy=True)
    pool = pool.prepared_by(mk.data.ImagePreparation([SIZE, SIZE, 3]))
    train, _, test = mk.data.split_classes(pool, train=0.8, validation=0, test=0.2)

    print(pool)
    maml, found = images.trained(train, test, options)
    taken = largest_memory() - before
    print(
        f"\nmemory of training and evaluation, above TensorFlow and this library: "
        f"{taken:.0f} MB at the most"
    )
    maml.export(options.out / "export", verbose=0)
    images.answer(options.out / "export", test)
    return {**found, "megabytes": [taken]}


if __name__ == "__main__":
    main()

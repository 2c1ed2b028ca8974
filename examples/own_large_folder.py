"""A folder of 20,000 images, which stay on disk: few-shot classes in colour.

First writes the images: 200 classes of 100 JPEG files of 84x84 pixels, with the stripes
and about the colours of the class. Training reads the files that a batch needs, ahead
of the network. Classes of the test tasks are not in the training. The script ends with
the memory that it took, and with five new images, as bytes, that TensorFlow alone
answers from the export.

    python examples/own_large_folder.py                  # ten minutes
    python examples/own_large_folder.py --folder photos  # yours: class/image.jpg
"""

import argparse
import pathlib
import resource
import sys

import numpy as np
import tensorflow as tf
from own_data_parts import images

import maml_keras as mk

SIZE = 84


def write(folder: pathlib.Path, classes: int, each: int) -> None:
    """Writes a folder of images for each class."""
    generator = np.random.default_rng(0)
    v, u = np.mgrid[: 1 : SIZE * 1j, : 1 : SIZE * 1j]
    for number in range(classes):
        place = folder / f"class_{number:03d}"
        place.mkdir(parents=True, exist_ok=True)
        angle, waves = generator.uniform([0, 2], [np.pi, 9])
        colours = generator.uniform(0, 1, [2, 3])
        for i in range(each):
            turned = angle + generator.normal(0, 0.05)
            along = np.cos(turned) * u + np.sin(turned) * v
            ink = np.sin(2 * np.pi * (waves * along + generator.uniform()))
            share = 1 / (1 + np.exp(-4 * ink[..., None]))
            # The colours of the class, in the light of the day.
            seen = colours + generator.normal(0, 0.4, [2, 3])
            image = share * seen[0] + (1 - share) * seen[1]
            image = image * generator.uniform(0.5, 1) + generator.uniform(0, 0.3)
            image = image + generator.normal(0, 0.15, image.shape)
            pixels = (np.clip(image, 0, 1) * 255).astype(np.uint8)
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
    found = images.run(train, test, options, filters=16, rate=0.05)
    taken = largest_memory() - before
    print(f"\nmemory above TensorFlow and this library: {taken:.0f} MB at the most")
    return {**found, "megabytes": [taken]}


if __name__ == "__main__":
    main()

"""Omniglot from its author's folders: new characters from one drawing of each.

Unzip `images_background.zip` and `images_evaluation.zip` from
github.com/brendenlake/omniglot into a folder. The split is the author's own: 30
alphabets for training, tests on characters of 20 others. The script ends with five new
drawings, as bytes, that TensorFlow alone answers from the export.

    python examples/own_alphabets.py --folder omniglot    # five minutes
"""

import argparse
import pathlib

from own_data_parts import images

import maml_keras as mk


def main(arguments: list[str] | None = None) -> dict[str, list[float]]:
    """Trains, compares, exports and answers; returns the accuracies by method."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=pathlib.Path, required=True)
    parser.add_argument("--meta-steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--out", type=pathlib.Path, default=pathlib.Path("runs/alphabets")
    )
    options = parser.parse_args(arguments)

    # From the folders to episodes.
    pool = mk.data.omniglot(options.folder)
    train, _, test = mk.data.split_omniglot(pool, "lake")
    preparation = mk.data.ImagePreparation([28, 28, 1])
    train, test = (part.prepared_by(preparation) for part in (train, test))

    print(f"{pool}\ntrain {train}\ntest  {test}")
    return images.run(train, test, options)


if __name__ == "__main__":
    main()

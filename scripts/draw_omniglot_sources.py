"""Draws the same characters from both sources of Omniglot, and says how they differ.

    python scripts/draw_omniglot_sources.py FOLDER --out sources.png

FOLDER is the author's folder of drawings. TFDS_DATA_DIR says where TFDS has its splits
small1 and small2. Needs matplotlib. TFDS does not say who drew, so each drawing of the
folder is paired with the drawing of TFDS, of the same character, that is nearest to it.
"""

import argparse
import pathlib

import matplotlib.pyplot as plt
import numpy as np

import maml_keras as mk

SPLIT = "small1+small2"


def paired(folder: str) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """The first drawing of each character, from TFDS and from the folder."""
    by_tfds = mk.data.omniglot(split=SPLIT, verbose=0)
    by_folder = mk.data.omniglot(folder, split=SPLIT, verbose=0)
    found = []
    for number, name in enumerate(by_folder.class_names):
        ours = by_folder.select([number]).examples[0, ..., 0].astype(float)
        theirs = by_tfds.select([by_tfds.class_names.index(name)]).examples[..., 0]
        distances = np.abs(theirs - ours).mean(axis=(1, 2))
        found.append((name, theirs[np.argmin(distances)].astype(float), ours))
    return found


def main() -> None:
    """Draws eight characters and prints the differences over all of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder")
    parser.add_argument("--out", type=pathlib.Path, required=True)
    options = parser.parse_args()
    pairs = paired(options.folder)
    difference = np.mean([np.abs(a - b).mean() for _, a, b in pairs])
    ink = [np.mean([image.mean() for image in c]) for c in list(zip(*pairs))[1:]]
    grey = np.mean([np.mean((a > 0) & (a < 255)) for _, a, _ in pairs])
    grey_too = np.mean([np.mean((b > 0) & (b < 255)) for _, _, b in pairs])
    print(f"{len(pairs)} characters; mean difference {difference:.1f} of 255")
    print(f"mean ink {ink[0]:.1f} by TFDS, {ink[1]:.1f} from the folder")
    print(f"grey pixels {grey:.1%} by TFDS, {grey_too:.1%} from the folder")
    shown = pairs[:: len(pairs) // 8][:8]
    figure, axes = plt.subplots(2, 8, figsize=(12, 3.6), layout="constrained")
    for column, (name, *images) in zip(axes.T, shown):
        for axis, image in zip(column, images):
            axis.imshow(image, cmap="gray_r", vmin=0, vmax=255)
            axis.set_xticks([])
            axis.set_yticks([])
        column[0].set_title(name.replace("/character", "\n"), fontsize=8)
    axes[0, 0].set_ylabel("TFDS")
    axes[1, 0].set_ylabel("folder, 28x28")
    figure.savefig(options.out, dpi=80)
    print(options.out)


if __name__ == "__main__":
    main()

"""Images that are almost the same in two parts: brighter, noisier, compressed again."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from maml_keras.data.audit_report import Finding
from maml_keras.data.audit_rows import EVERYWHERE, HashedPool
from maml_keras.data.image_files import ImageFiles

# Side of the thumbnails that are compared.
SIDE = 16
# Thumbnails that correlate more strongly are near-copies.
ALIKE = 0.995
# At most this many images of a part are compared; fewer if each must be decoded.
MOST, MOST_DECODED = 20_000, 2_000
BLOCK = 2048
# Bytes of pixels that are averaged at once.
PIXELS = 2**26


def near_copies(parts: dict[str, HashedPool]) -> list[Finding]:
    """Images of a part that are almost an image of training, but not the same bytes.

    Both images are averaged to 16 x 16 grey values, of which mean and scale are taken
    out. Two such thumbnails with a correlation above 0.995 are near-copies. So a change
    of brightness, contrast, noise or compression is found, but no shift or turn. Of a
    part with more than 20,000 images, or 2,000 in undecoded files, evenly spaced ones
    are compared, and a note says so.

    Args:
        parts: the pools by the names of their parts, with `"train"` among them.
    """
    if not all(_are_images(part.pool.examples) for part in parts.values()):
        return []
    thumbnails = {name: _thumbnails(part.pool.examples) for name, part in parts.items()}
    found: list[Finding] = []
    found += _some_only({name: part.pool.examples for name, part in parts.items()})
    rows, ours = thumbnails.pop("train")
    for name, (their_rows, theirs) in thumbnails.items():
        known = parts["train"].hashes.keys()
        same = {row for key, row in parts[name].hashes.items() if key in known}
        pairs = [
            (float(value), int(rows[i]), int(their_rows[j]))
            for j, (value, i) in enumerate(_nearest(theirs, ours))
            if value > ALIKE and int(their_rows[j]) not in same
        ]
        if not pairs:
            continue
        value, one, other = max(pairs)
        share = len(pairs) / len(their_rows)
        found.append(
            Finding(
                "leak" if share >= 0.01 else "warning",
                "near-copies",
                f"{len(pairs)} images of {name} are almost an image of train, the "
                f"closest with a correlation of {value:.4f}: row {other} of {name} "
                f"(class {parts[name].name_of(other)!r}) and row {one} of train (class "
                f"{parts['train'].name_of(one)!r}).",
                EVERYWHERE,
            )
        )
    return found


def _some_only(examples: dict[str, Any]) -> list[Finding]:
    """The note that not all images were compared."""
    fewer = {n: _compared(x) for n, x in examples.items() if _compared(x) < len(x)}
    if not fewer:
        return []
    shares = " and ".join(f"{k} of {len(examples[n])} of {n}" for n, k in fewer.items())
    decoded = any(isinstance(examples[name], ImageFiles) for name in fewer)
    remedy = "Pass cache=True to `from_folder`, so that more are compared."
    return [
        Finding(
            "note",
            "near-copies",
            f"Evenly spaced images were compared: {shares}.",
            remedy if decoded else "Copies with the same bytes are looked for in all.",
        )
    ]


def _compared(examples: Any) -> int:
    """How many images are compared."""
    most = MOST_DECODED if isinstance(examples, ImageFiles) else MOST
    return min(len(examples), most)


def _nearest(theirs: Any, ours: Any) -> list[tuple[float, int]]:
    """For each of `theirs` the largest correlation with `ours`, and where it is."""
    found = []
    for start in range(0, len(theirs), BLOCK):
        alike = theirs[start : start + BLOCK] @ ours.T
        best = alike.argmax(axis=1)
        found += list(zip(alike[np.arange(len(best)), best].tolist(), best.tolist()))
    return found


def _are_images(examples: Any) -> bool:
    """True for grey or colour images of at least 8 x 8 pixels."""
    if isinstance(examples, dict):
        return False
    sizes = list(examples.shape[1:])
    grey_or_colour = len(sizes) == 2 or (len(sizes) == 3 and sizes[2] <= 4)
    return grey_or_colour and min(sizes[:2]) >= 8 and len(examples) > 0


def _thumbnails(examples: Any) -> tuple[Any, Any]:
    """Row numbers, and thumbnails `[rows, pixels]` of length one.

    Images of one value have no thumbnail.
    """
    count = len(examples)
    rows = np.unique(np.linspace(0, count - 1, _compared(examples)).astype(int))
    parts = []
    step = max(1, PIXELS // (4 * math.prod(examples.shape[1:])))
    for start in range(0, len(rows), step):
        block = rows[start : start + step]
        images = np.asarray(examples[block], np.float32)
        grey = images.mean(axis=-1) if images.ndim == 4 else images
        parts.append(_averaged(grey))
    flat = np.concatenate(parts) if parts else np.zeros([0, 1], np.float32)
    flat = flat - flat.mean(axis=1, keepdims=True)
    length = np.linalg.norm(flat, axis=1)
    kept = length > 1e-6
    return rows[kept], (flat[kept] / length[kept, None]).astype(np.float32)


def _averaged(images: Any) -> Any:
    """Means over boxes, `[n, h, w] -> [n, pixels]`, of at most `SIDE` boxes a side."""
    for axis in (1, 2):
        size = images.shape[axis]
        if size > SIDE:
            edges = np.linspace(0, size, SIDE + 1).astype(int)
            sums = np.add.reduceat(images, edges[:-1], axis=axis)
            shape = [1, 1, 1]
            shape[axis] = SIDE
            images = sums / np.diff(edges).reshape(shape)
    return images.reshape(len(images), -1)

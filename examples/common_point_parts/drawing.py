"""Shared parts of the pictures of `common_point.py`: colours, PNG and GIF files."""

import pathlib
from collections.abc import Iterable
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patheffects import withStroke
from PIL import Image

RANDOM, JOINT, META = "random weights", "trained on all tasks together", "meta-learned"
# Okabe and Ito's colours, which colour-blind readers can tell apart.
COLORS = {"T1": "#0072B2", "T2": "#D55E00", "T3": "#009E73", "T4": "#AA3388"}
GREY, INK = "#777777", "#111111"
MARKS = {  # The mark of each start, the same in every picture.
    RANDOM: {"marker": "o", "color": GREY, "ms": 9},
    JOINT: {"marker": "s", "color": "#B08000", "ms": 8},
    META: {"marker": "*", "color": INK, "ms": 16},
}
HALO = [withStroke(linewidth=3, foreground="white")]  # For text across lines.
plt.rcParams.update({"font.size": 11, "axes.titlesize": 12.5, "figure.dpi": 100})


def corner(axes: Any, lines: Iterable[tuple[str, str]]) -> None:
    """Writes lines of text in the lower right corner, from below, each in a colour."""
    for row, (text, color) in enumerate(lines):
        axes.text(
            0.98,
            0.03 + 0.07 * row,
            text,
            color=color,
            transform=axes.transAxes,
            ha="right",
            weight="bold",
        )


def png(figure: Any, path: pathlib.Path) -> pathlib.Path:
    """Writes a figure and closes it."""
    figure.savefig(path, dpi=110, pil_kwargs={"optimize": True})
    plt.close(figure)
    return path


def gif(frames: Iterable[tuple[Any, int]], path: pathlib.Path) -> pathlib.Path:
    """Writes figures as a film; each is shown for its own number of milliseconds."""
    images, durations = [], []
    for figure, duration in frames:
        figure.canvas.draw()
        images.append(Image.fromarray(np.asarray(figure.canvas.buffer_rgba())[..., :3]))
        durations.append(duration)
        plt.close(figure)
    # All frames have one palette, so that nothing flickers. Half of the palette is for
    # large pale areas, half for the strong colours of thin lines.
    chosen = images[:: max(1, len(images) // 8)] + images[-1:]
    sample = Image.fromarray(np.concatenate([np.asarray(i) for i in chosen]))
    halves = Image.Quantize.MEDIANCUT, Image.Quantize.MAXCOVERAGE
    colors = [sample.quantize(128, method=m).getpalette()[: 3 * 128] for m in halves]
    palette = Image.new("P", (1, 1))
    palette.putpalette(colors[0] + colors[1])
    first, *others = [
        i.quantize(palette=palette, dither=Image.Dither.NONE) for i in images
    ]
    first.save(
        path,
        save_all=True,
        append_images=others,
        duration=durations,
        loop=0,
        optimize=True,
    )
    return path


def pace(last: int, frames: int) -> list[int]:
    """Numbers from 0 to `last`: first one by one, then in growing strides."""
    if last <= frames:
        return list(range(last + 1))
    early = list(range(min(6, frames)))
    late = np.geomspace(early[-1] + 1, last, frames - len(early))
    return sorted({*early, *np.round(late).astype(int).tolist()})

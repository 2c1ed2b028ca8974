"""Draws the solution of one task after some steps, from each start."""

import pathlib
from typing import Any


def draw(
    fits: dict[str, dict[int, Any]], real: Any, along: Any, axis: str, path: Any
) -> pathlib.Path:
    """A panel for each start, a line for each number of steps.

    Args:
        fits: by the start's name, then by steps: floats `[points]`.
        real: floats `[points]`, the solution.
        along: floats `[points]`, the horizontal axis.
        axis: str, its name.
        path: the PNG to write.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(
        1, len(fits), figsize=(4 * len(fits), 3.2), sharey=True, squeeze=False
    )
    for panel, (name, lines) in zip(panels[0], fits.items()):
        panel.plot(along, real, color="0.75", linewidth=4, label="solution")
        shades = plt.get_cmap("viridis")([0.9, 0.6, 0.3, 0.0])
        for (steps, values), shade in zip(lines.items(), shades):
            word = "step" if steps == 1 else "steps"
            panel.plot(along, values, color=shade, label=f"{steps} {word}")
        panel.set(title=name, xlabel=axis)
    panels[0][0].set_ylabel("u")
    panels[0][-1].legend(loc="center left", bbox_to_anchor=(1.02, 0.5), frameon=False)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return pathlib.Path(path)

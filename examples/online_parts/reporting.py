"""Means with 95% intervals over training seeds and test streams."""

from __future__ import annotations

from typing import Any

import numpy as np

import maml_keras as mk


def interval(values: Any) -> tuple[float, float]:
    """Mean and half-width of its 95% interval.

    Args:
        values: floats `[seeds, streams]`. With one seed, the interval is over streams
            alone.
    """
    values = np.asarray(values, float)
    if len(values) > 1:
        found = mk.SeedMean.of(values)
        return found.mean, found.half_width
    return float(values.mean()), mk.evaluation.half_width(values[0])


def cell(values: Any) -> str:
    """`mean ± half-width`, such as `0.412 ± 0.031`."""
    mean, half = interval(values)
    return f"{mean:.3f} ± {half:.3f}"


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)

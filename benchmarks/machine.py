"""Describes the machine of the figures: processor, cores and peak of its matmul."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from typing import Any

import numpy as np


def describe() -> dict[str, Any]:
    """Processor, cores, system and NumPy's best float32 GFLOP/s."""
    model = platform.processor() or platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo") as lines:
            named = [line for line in lines if line.startswith("model name")]
        model = named[0].split(":", 1)[1].strip() if named else model
    return {
        "processor": model,
        "cores": len(os.sched_getaffinity(0)),
        "system": f"{platform.system()} {platform.machine()}",
        "numpy_gflops": matmul_gflops(np.matmul),
    }


def matmul_gflops(multiply: Callable[[Any, Any], Any], seconds: float = 0.5) -> float:
    """Best float32 GFLOP/s of a matrix product over a few sizes.

    Args:
        multiply: takes two square arrays; returns when the product is computed.
        seconds: float, time for each size.
    """
    best = 0.0
    rng = np.random.default_rng(0)
    for size in (256, 512, 1024, 2048):
        a = rng.normal(size=(2, size, size)).astype("float32")
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            begun = time.perf_counter()
            multiply(a[0], a[1])
            best = max(best, 2 * size**3 / (time.perf_counter() - begun) / 1e9)
    return best

"""Measures how long an export takes to adapt and to predict, with TensorFlow alone.

This file runs as a program in a separate process, as an export runs in use: without
this library, and with TensorFlow's default threads.
"""

from __future__ import annotations

import functools
import json
import os
import pathlib
import platform
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np

# A timing has at most `CALLS` calls and ends after `SECONDS`, but has more than
# `FEWEST` calls, which its 95th percentile needs, unless they take over `MOST_SECONDS`.
CALLS, SECONDS, FEWEST, MOST_SECONDS = 200, 4.0, 20, 40.0
# Seconds after which the whole measurement is given up.
LIMIT = 300.0
PROGRAM = "import runpy, sys; runpy.run_path(sys.argv[1], run_name='__main__')"


def measure(
    path: str | pathlib.Path,
    *,
    steps: int,
    queries: int | None = None,
    examples: int | None = None,
    verbose: str | int = 0,
) -> dict[str, Any]:
    """Times `adapt` and `serve` of an export on random inputs.

    Args:
        path: the export's folder.
        steps: int, gradient steps of a call of `adapt`.
        queries: int, also predict this number of examples in one call; None for one
            example only.
        examples: int, support examples; None for one of each class, or for 10 with
            regression.
        verbose: 0 for silence, else a progress bar.

    Returns:
        A dict with the texts `machine` and `tensorflow`, with `load_ms`, and with
        `timings`: a list of dicts with `what`, `calls` and, in milliseconds,
        `median_ms`, `p95_ms` and `first_ms`.

    Raises:
        ValueError: if the export cannot be run on random inputs, or if the measurement
            takes more than five minutes.
    """
    how = {"path": str(path), "steps": steps, "queries": queries, "examples": examples}
    # Imported here, because the other process runs this file without this library.
    from maml_keras.backend.progress import Bar

    found: dict[str, Any] = {}
    # The bar counts loading, `adapt`, and each number of predictions.
    bar = Bar(2 + len({1, queries or 1}), unit="timing", verbose=verbose)
    # Errors go to a file: reading two pipes one after the other can block.
    with tempfile.TemporaryFile("w+", encoding="utf-8") as errors:
        with subprocess.Popen(
            [sys.executable, "-c", PROGRAM, __file__, json.dumps(how)],
            # The other process ends with this one: see `_end_with_parent`.
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        ) as process:
            limit = threading.Timer(LIMIT, process.kill)
            started = time.monotonic()  # Before the limit: it must not seem short.
            limit.start()
            try:
                for line in process.stdout or ():
                    if not line.startswith("{"):
                        continue  # A line that TensorFlow printed.
                    found = json.loads(line)
                    if "timings" not in found:
                        bar.update(found["done"], {"milliseconds": found["ms"]})
            except BaseException:
                process.kill()  # Otherwise leaving the block waits for the process.
                raise
            finally:
                limit.cancel()
            over = time.monotonic() - started >= LIMIT
        errors.seek(0)
        printed = errors.read().strip().splitlines()
    if process.returncode and over:
        raise ValueError(
            f"The export in {path} must be timed within {LIMIT:.0f} seconds. Received: "
            f"no end of {steps} step(s). Skip the latency with `--no-latency` or "
            "`latency=False`."
        )
    if process.returncode:
        reason = (printed or ["no reason given"])[-1]
        raise ValueError(
            f"The export in {path} must run on random inputs to be timed. Received: "
            f"{reason}. Skip the latency with `--no-latency` or `latency=False`."
        )
    return found


def machine() -> str:
    """The processor and how many of its cores this process may use.

    >>> "core" in machine()
    True
    """
    name = platform.processor() or platform.machine()
    information = pathlib.Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                name = line.partition(":")[2].strip()
                break
    cores = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    return f"{name}, {cores} core{'s' if cores > 1 else ''}, {platform.system()}"


def timed(call: Callable[[], Any]) -> dict[str, float]:
    """Times of calls in milliseconds, with the first call apart, which compiles."""
    taken: list[float] = []
    started = time.perf_counter()
    while True:
        before = time.perf_counter()
        elapsed = before - started
        few = len(taken) <= FEWEST and elapsed < MOST_SECONDS
        if len(taken) > 1 and not (few or (len(taken) <= CALLS and elapsed < SECONDS)):
            break
        call()
        taken.append(1e3 * (time.perf_counter() - before))
    first, rest = taken[0], taken[1:]
    return {
        "median_ms": float(np.median(rest)),
        "p95_ms": float(np.percentile(rest, 95)),
        "first_ms": first,
        "calls": len(rest),
    }


def _run(
    path: str,
    steps: int,
    queries: int | None,
    examples: int | None,
    tell: Callable[[dict[str, Any]], None],
) -> None:
    import tensorflow as tf

    started = time.perf_counter()
    saved = tf.saved_model.load(path)
    loaded = 1e3 * (time.perf_counter() - started)
    tell({"done": 1, "ms": loaded})
    generator = np.random.default_rng(0)
    support, *_ = saved.adapt.concrete_functions[0].structured_input_signature
    x_spec, y_spec = support[:2]
    outputs = tf.nest.flatten(saved.serve.concrete_functions[0].structured_outputs)
    classes = outputs[0].shape[-1]
    labels = not tf.nest.flatten(y_spec)[0].dtype.is_floating
    examples = examples or (classes if labels else 10)

    card = json.loads((pathlib.Path(path) / "card.json").read_text("utf-8"))
    preparation = card.get("preparation") or {}
    names = {**preparation.get("categories", {}), "y": preparation.get("classes")}
    names[""] = preparation.get("words")

    def draw(spec: Any, count: int, below: int = 2, name: str = "") -> Any:
        shape = [count, *spec.shape[1:]]
        if None in shape:
            raise ValueError(f"inputs of any size along an axis, {spec.shape}")
        if spec.dtype == tf.string:
            return tf.constant([names[name][i % below] for i in range(count)])
        if spec.dtype.is_floating:
            return tf.constant(generator.normal(size=shape), spec.dtype)
        return tf.constant(np.arange(np.prod(shape)).reshape(shape) % below, spec.dtype)

    def inputs(count: int) -> Any:
        if preparation and isinstance(x_spec, dict):
            columns = x_spec.items()
            return {name: draw(spec, count, name=name) for name, spec in columns}
        return tf.nest.map_structure(lambda spec: draw(spec, count), x_spec)

    x, count = inputs(examples), tf.constant(steps)
    y = tf.nest.map_structure(lambda s: draw(s, examples, classes, "y"), y_spec)

    def finished(function: Any, *arguments: Any) -> None:
        # Reading a value waits for a device that works asynchronously.
        for value in tf.nest.flatten(function(*arguments)):
            value.numpy()

    plural = "" if examples == 1 else "s"
    timings = [
        {
            "what": f"adapt, {steps} step{'' if steps == 1 else 's'} on {examples} "
            f"example{plural}",
            **timed(functools.partial(finished, saved.adapt, x, y, count)),
        }
    ]
    tell({"done": 2, "ms": timings[-1]["median_ms"]})
    for done, number in enumerate(sorted({1, queries or 1}), start=3):
        timings.append(
            {
                "what": f"predict {number} example{'' if number == 1 else 's'}",
                **timed(functools.partial(finished, saved.serve, inputs(number))),
            }
        )
        tell({"done": done, "ms": timings[-1]["median_ms"]})
    devices = [
        tf.config.experimental.get_device_details(gpu).get("device_name", gpu.name)
        for gpu in tf.config.list_physical_devices("GPU")
    ]
    tell(
        {
            "machine": ", ".join([machine(), *devices]),
            "tensorflow": tf.__version__,
            "load_ms": loaded,
            "timings": timings,
        }
    )


def _end_with_parent() -> None:
    """Ends this process when the process that started it has ended."""

    def wait() -> None:
        # Returns when the other end of the pipe is closed. `sys.stdin` has a lock that
        # would keep this process from ending.
        os.read(0, 1)
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _tell(found: dict[str, Any]) -> None:
    # Standard output leads to the process that started this one.
    sys.stdout.write(json.dumps(found) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    _end_with_parent()
    _run(**json.loads(sys.argv[2]), tell=_tell)

"""From how many meta-steps on XLA earns its compilation back, for six networks.

    python -m benchmarks.break_even

A network trains under XLA and without, both vectorised over tasks. The first call,
minus its steps, is the cost of tracing and compiling. The number of steps at which both
trainings are even is

    (first with XLA - first without) / (step without XLA - step with XLA)

All times are processor seconds of this process, which other processes disturb less than
seconds of the clock.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import maml_keras as mk

layers = keras.layers
FIRST, MORE = 100, 500


def mlp(depth: int, units: int) -> keras.Model:
    """A network of `depth` hidden layers on one number."""
    hidden = [layers.Dense(units, activation="relu") for _ in range(depth)]
    return keras.Sequential([keras.Input([1]), *hidden, layers.Dense(1)])


def normalised() -> keras.Model:
    """Batch and layer normalisation."""
    return keras.Sequential(
        [
            keras.Input([1]),
            layers.Dense(32, activation="relu"),
            layers.BatchNormalization(),
            layers.Dense(32, activation="relu"),
            layers.LayerNormalization(),
            layers.Dense(1),
        ]
    )


def recurrent() -> keras.Model:
    """Six steps of a GRU."""
    return keras.Sequential([keras.Input([6, 1]), layers.GRU(8), layers.Dense(1)])


def attention() -> keras.Model:
    """One block of self-attention."""
    x = keras.Input([6, 8])
    h = layers.MultiHeadAttention(num_heads=2, key_dim=4)(x, x)
    h = layers.LayerNormalization()(layers.Add()([x, h]))
    return keras.Model(x, layers.Dense(1)(layers.GlobalAveragePooling1D()(h)))


CASES: dict[str, tuple[Callable[[], keras.Model], int]] = {
    "2 layers of 40, 1 inner step": (lambda: mlp(2, 40), 1),
    "2 layers of 40, 5 inner steps": (lambda: mlp(2, 40), 5),
    "6 layers of 32, 2 inner steps": (lambda: mlp(6, 32), 2),
    "batch and layer norm, 2 inner steps": (normalised, 2),
    "GRU over 6 values, 1 inner step": (recurrent, 1),
    "self-attention, 1 inner step": (attention, 1),
}


def seconds(build: Callable[[], keras.Model], steps: int, *, xla: bool) -> Any:
    """Processor seconds of tracing and compiling, and of a meta-step."""
    keras.utils.set_random_seed(0)
    model = build()
    draw = np.random.default_rng(0).normal
    x = draw(size=[25, 10, *model.input_shape[1:]]).astype("float32")
    y = draw(size=[25, 10, 1]).astype("float32")
    task = {"support_x": x, "support_y": y, "query_x": x}
    batches = tf.data.Dataset.from_tensors((task, y)).repeat()
    maml = mk.MAML(
        model, mk.InnerLoop("mse", mk.SGD(0.01), steps=steps), task_map="vectorized"
    )
    maml.compile("adam", jit_compile=xla, steps_per_execution=100 if xla else 1)
    times = [time.process_time()]
    for count in (FIRST, MORE):
        maml.fit(batches, steps_per_epoch=count, verbose=0)
        times.append(time.process_time())
    step = (times[2] - times[1]) / MORE
    return times[1] - times[0] - FIRST * step, step


def main() -> None:
    """Prints the table."""
    print("| network | first call, XLA / without (s) | meta-step (ms) | even after |")  # noqa: T201
    print("|---|---|---|---|")  # noqa: T201
    for name, (build, steps) in CASES.items():
        first, step = seconds(build, steps, xla=True)
        plain_first, plain_step = seconds(build, steps, xla=False)
        even = (first - plain_first) / (plain_step - step)
        print(  # noqa: T201
            f"| {name} | {first:.1f} / {plain_first:.1f} | "
            f"{1e3 * step:.2f} / {1e3 * plain_step:.2f} | {even:,.0f} steps |",
            flush=True,
        )


if __name__ == "__main__":
    main()

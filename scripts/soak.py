"""Trains, watches, backs up, exports, loads and adapts for half an hour, and counts.

    make soak                               # 30 minutes
    python scripts/soak.py --minutes 3      # a short form

One process does what a service or a long run does, round after round. After the warm-up
its memory must stay flat (under 1 MB for 1,000 meta-steps), its open files and threads
too, and nothing may be traced again. The exit code is 1 if one of them grows.
"""

import argparse
import gc
import pathlib
import sys
import tempfile
import time
from typing import NamedTuple

import keras
import numpy as np
import psutil
import tensorflow as tf

import maml_keras as mk

# Calls of `fit` in a round, their epochs and the meta-steps of an epoch. Short calls,
# because what a call of `fit` keeps would be hidden by the steps of a long one.
# Keras keeps 0.07 MB each time it writes or reads a file of weights, of any model; the
# ten backups of a round are most of what memory grows by. `fit` itself keeps 0.004 MB.
FITS, EPOCHS, STEPS = 5, 2, 100
# The share of the rounds in which memory may still grow: caches fill, pools settle.
WARM_UP = 0.4
MOST_GROWTH = 1.0  # MB for 1,000 meta-steps


class Round(NamedTuple):
    """What the process holds after a round.

    Attributes:
        meta_steps: int, taken so far.
        memory: float, resident MB without the pages of files, such as TensorFlow's
            libraries: the kernel drops these pages and reads them again as it likes.
        files: int, open file handles.
        threads: int.
        traces: int, how often Python ran the training step.
    """

    meta_steps: int
    memory: float
    files: int
    threads: int
    traces: int


class Soak:
    """The run: one learner, its tasks and its folder."""

    def __init__(self, folder: pathlib.Path) -> None:
        keras.utils.set_random_seed(0)
        self.folder = folder
        self.traces = 0
        model = mk.models.mlp()
        self.maml = mk.MAML(model, mk.InnerLoop("mse", mk.SGD(0.01)), seed=0)
        step = self.maml.train_step

        def counted(data):
            self.traces += 1
            return step(data)

        self.maml.train_step = counted
        self.maml.compile(keras.optimizers.Adam(1e-3))
        tasks = mk.data.Sinusoid(shots=10, queries=10)
        self.episodes = mk.data.episodes(tasks, batch_size=25, seed=1)
        self.unseen = mk.data.episodes(tasks, batch_size=25, seed=2, num_episodes=100)
        self.task = next(iter(self.unseen))[0]

    def round(self) -> Round:
        """Everything once."""
        for _ in range(FITS):
            self.maml.fit(
                self.episodes,
                steps_per_epoch=STEPS,
                epochs=EPOCHS,
                verbose=0,
                callbacks=[
                    mk.WholeBackup(self.folder / "backup"),
                    mk.Watch(
                        self.folder / "logs", self.unseen, every=EPOCHS, pictures=[]
                    ),
                ],
            )
        x, y = self.task["support_x"][0], self.task["support_y"][0]
        expected = self.maml.adapt(x, y, steps=3, verbose=0)(x)
        with tempfile.TemporaryDirectory(dir=self.folder) as place:
            export = self.maml.export(pathlib.Path(place, "export"), verbose=0)
            served = tf.saved_model.load(str(export))
            weights = served.adapt(x, y, 3, 0.01)
            np.testing.assert_allclose(
                served.predict_with(weights, x), expected, rtol=1e-4, atol=1e-5
            )
        return self.measured()

    def measured(self) -> Round:
        """The state of the process, after unused objects are removed."""
        gc.collect()
        process = psutil.Process()
        held = process.memory_info()
        return Round(
            int(self.maml.meta_steps),
            (held.rss - getattr(held, "shared", 0)) / 2**20,
            process.num_fds() if hasattr(process, "num_fds") else 0,
            process.num_threads(),
            self.traces,
        )


def faults(rounds: list[Round]) -> list[str]:
    """What grew after the warm-up, a sentence each.

    >>> flat = [Round(2000 * i, 500.0, 20, 30, 1) for i in range(10)]
    >>> faults(flat)
    []
    >>> faults([r._replace(memory=500 + 0.004 * r.meta_steps) for r in flat])
    ['Memory grows by 4.00 MB for 1,000 meta-steps.']
    >>> faults([*flat, flat[-1]._replace(files=21)])
    ['Open files grow from 20 to 21.']
    """
    steady = rounds[int(WARM_UP * len(rounds)) :]
    found = []
    growth = slope(steady)
    if growth >= MOST_GROWTH:
        found.append(f"Memory grows by {growth:.2f} MB for 1,000 meta-steps.")
    for key, name in (
        ("files", "Open files"),
        ("threads", "Threads"),
        ("traces", "Traces of the training step"),
    ):
        first, last = getattr(steady[0], key), getattr(steady[-1], key)
        if last > first:
            found.append(f"{name} grow from {first} to {last}.")
    return found


def slope(rounds: list[Round]) -> float:
    """MB for 1,000 meta-steps, by least squares."""
    steps = [r.meta_steps / 1000 for r in rounds]
    return float(np.polyfit(steps, [r.memory for r in rounds], 1)[0])


def main() -> int:
    """Runs for the time of `--minutes`; the exit code says whether all stayed flat."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30.0)
    minutes = parser.parse_args().minutes
    rounds: list[Round] = []
    with tempfile.TemporaryDirectory() as folder:
        soak = Soak(pathlib.Path(folder))
        end = time.monotonic() + 60 * minutes
        while time.monotonic() < end or len(rounds) < 5:
            rounds.append(soak.round())
            print(*(f"{k} {v:,.0f}" for k, v in rounds[-1]._asdict().items()))
            sys.stdout.flush()
    steady = rounds[int(WARM_UP * len(rounds)) :]
    print(
        f"{rounds[-1].meta_steps:,} meta-steps in {len(rounds)} rounds; in the last "
        f"{len(steady)} memory grew by {slope(steady):.2f} MB for 1,000 meta-steps"
    )
    found = faults(rounds)
    print("\n".join(found) or "all stayed flat")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

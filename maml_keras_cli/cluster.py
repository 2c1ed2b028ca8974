"""The workers of a command, which ends with a sentence if one of them is lost."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import Any

# Seconds in which TensorFlow connects workers that have found each other.
CONNECT_SECONDS = 10
LOST = (
    "error: All workers must start together. Received: a worker that was lost after it "
    "had come. Start the same command again on each machine, with `--resume` if the "
    "run has begun."
)
_WATCHER = """
import os, signal, sys, threading
signal.signal(signal.SIGINT, signal.SIG_IGN)
def end():
    print(sys.argv[3], file=sys.stderr, flush=True)
    os.kill(int(sys.argv[2]), getattr(signal, "SIGKILL", signal.SIGTERM))
    os._exit(0)
timer = threading.Timer(float(sys.argv[1]), end)
timer.daemon = True
timer.start()
os.read(0, 1)
os._exit(0)
"""


def chosen_strategy(
    devices: int | None, cluster: Sequence[str] | None, worker: int | None
) -> Any:
    """`strategies.chosen`, in a process that ends if a worker is lost meanwhile.

    TensorFlow waits an hour for a worker that is lost between its first sign of life
    and its registration. Worker 0 waits inside C++ code that lets no Python run, so no
    signal reaches this program; another process ends it.
    """
    from maml_keras.execution import strategies

    if cluster is None and "TF_CONFIG" not in os.environ:
        return strategies.chosen(devices, cluster, worker)
    with ended_after(strategies.START_SECONDS + CONNECT_SECONDS, LOST):
        return strategies.chosen(devices, cluster, worker)


def noticing_lost_workers(team: Any) -> Any:
    """Says in a sentence that another worker was lost, also outside of `fit`.

    Args:
        team: the `Replicas` of the command, or None.
    """
    return contextlib.nullcontext() if team is None else team.noticing_lost_workers()


@contextlib.contextmanager
def ended_after(seconds: float, sentence: str) -> Iterator[None]:
    """Kills this process if the block takes longer, also where no Python can run.

    Args:
        seconds: float, the longest time of the block.
        sentence: str, what is then written to the standard error stream.
    """
    with subprocess.Popen(
        # Isolated and without site packages, the other process starts at once.
        [sys.executable, "-ISc", _WATCHER, str(seconds), str(os.getpid()), sentence],
        stdin=subprocess.PIPE,
    ):
        yield  # The pipe closes after the block, or when this process ends.

"""Kills workers of a cluster at random moments, resumes, and compares the runs.

    python scripts/kill_workers.py --kills 20

Two workers on this machine train one run. One of them is killed (`kill -9`) at a random
moment. The other must end within 180 seconds: with a sentence that says how to resume,
or with the finished run. Both are started again with `--resume`, until the run has
ended. Weights, optimizer state, history and figures must then be those of a run whose
workers were never killed. The script prints a line for each run, and ends with exit
code 1 if one of them differs.
"""

import argparse
import os
import pathlib
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time

from kill_runs import LENGTH, PROGRAM, content, differences, stage

COMMAND = ["train", "sinusoid", "--epoch", "20", *LENGTH]
KILLS_OF_A_RUN = 2
# Seconds in which the other worker must end. Workers wait two minutes for each other at
# the start, after TensorFlow is imported.
LIMIT = 180.0
# What the other worker says: a worker was lost in training, never came, or was lost
# while TensorFlow connected the workers. The last is said by another process.
SENTENCES = {
    1: ("All workers must run until the end", "All workers must start within"),
    -signal.SIGKILL: ("All workers must start together",),
}


def main() -> int:
    """Kills and compares; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    draw = random.Random(options.seed)
    done = number = different = 0
    with tempfile.TemporaryDirectory() as place:
        whole = pathlib.Path(place) / "whole"
        began = time.monotonic()
        for worker in started(whole):
            ended(worker, None)
        length = time.monotonic() - began
        expected = content(whole)
        print(f"two workers: {length:.0f} s without a kill", flush=True)
        while done < options.kills:
            folder = pathlib.Path(place) / f"run-{number}"
            moments: list[str] = []
            most = min(KILLS_OF_A_RUN, options.kills - done)
            while not attempt(folder, moments, most, draw, length):
                pass
            done += len(moments)
            other = differences(expected, content(folder))
            different += bool(other)
            told = ", ".join(moments) or "ended before its kills"
            print(f"{folder.name}: {told}: {other or 'equal'}", flush=True)
            number += 1
    print(f"{done} kills of workers, {number} runs, {different} differ")
    return 1 if different else 0


def attempt(
    folder: pathlib.Path,
    moments: list[str],
    most: int,
    draw: random.Random,
    length: float,
) -> bool:
    """Starts both workers and kills one of them; returns whether the run has ended."""
    workers = started(folder)
    if len(moments) == most:
        for worker in workers:
            ended(worker, None)
        return True
    lost, after = draw.randrange(2), draw.uniform(0.0, length)
    try:
        workers[lost].communicate(timeout=after)
    except subprocess.TimeoutExpired:
        workers[lost].kill()
        workers[lost].communicate()
    else:
        ended(workers[1 - lost], LIMIT)
        return True
    at, since = stage(folder), time.monotonic()
    code = ended(workers[1 - lost], LIMIT, may_fail=True)
    took = time.monotonic() - since
    what = "finished" if code == 0 else "ended"
    moments.append(
        f"worker {lost} killed after {after:.1f} s ({at}), the other {what} "
        f"{took:.0f} s later"
    )
    # Worker 0 writes, so its end is that of the run.
    return code == 0 and lost == 1


def started(folder: pathlib.Path) -> list[subprocess.Popen[str]]:
    """Both workers of a run, which continues if the run has begun."""
    ports = []
    for _ in range(2):
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            ports.append(one.getsockname()[1])
    addresses = ",".join(f"localhost:{port}" for port in ports)
    resume = ["--resume"] if (folder / "config.toml").exists() else []
    shared = [*COMMAND, "--out", str(folder), "--cluster", addresses, *resume]
    return [
        subprocess.Popen(
            [*PROGRAM, *shared, "--worker", str(worker)],
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for worker in range(2)
    ]


def ended(
    worker: subprocess.Popen[str], limit: float | None, may_fail: bool = False
) -> int:
    """Waits for the end of a worker, and returns its exit code."""
    try:
        said, _ = worker.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        worker.kill()
        said, _ = worker.communicate()
        raise SystemExit(f"A worker did not end in {limit:.0f} s: {said}") from None
    sentences = SENTENCES.get(worker.returncode, ()) if may_fail else ()
    if worker.returncode and not any(sentence in said for sentence in sentences):
        raise SystemExit(f"Exit code {worker.returncode}: {said}")
    return worker.returncode


if __name__ == "__main__":
    sys.exit(main())

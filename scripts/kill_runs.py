"""Kills runs at random moments, resumes them, and compares them bit for bit.

    python scripts/kill_runs.py --kills 50

A run of `maml-keras train` or `maml-keras compare` is killed (`kill -9`) a few times
and resumed each time. The run must end with the weights, the optimizer state, the
history and the figures of a run that was never killed. The script prints a line for
each run, and ends with exit code 1 if one of them differs.
"""

import argparse
import json
import pathlib
import random
import subprocess
import sys
import tempfile
import time
import zipfile
from typing import Any

import h5py
import numpy as np

PROGRAM = [sys.executable, "-c", "from maml_keras_cli import main; main()"]
LENGTH = ["--iterations", "200", "--tasks", "20", "--seed", "3", "--quiet"]
COMMANDS = {
    "train": ["train", "sinusoid", "--epoch", "20", *LENGTH],
    "compare": ["compare", "sinusoid", "--algorithms", "maml,pretrained", *LENGTH],
}
# Kills of one run before it may end.
KILLS_OF_A_RUN = 3
# Figures that depend on the clock.
TIMES = {"seconds", "command"}
# Begins the names of figures from a look at validation tasks.
LOOK = "adapted_"


def main() -> int:
    """Kills and compares; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=list(COMMANDS), help="kill one command only")
    options = parser.parse_args()
    draw = random.Random(options.seed)
    names = [options.only] if options.only else list(COMMANDS)
    done, different = 0, 0
    with tempfile.TemporaryDirectory() as place:
        expected, length = {}, {}
        for name in names:
            command = COMMANDS[name]
            folder = pathlib.Path(place) / name
            began = time.perf_counter()
            subprocess.run(
                [*PROGRAM, *command, "--out", folder],
                check=True,
                stdout=subprocess.DEVNULL,
            )
            length[name] = time.perf_counter() - began
            expected[name] = content(folder)
            print(f"{name}: {length[name]:.0f} s without a kill", flush=True)
        number = 0
        while done < options.kills:
            name = names[number % len(names)]
            folder = pathlib.Path(place) / f"{name}-{number}"
            most = min(KILLS_OF_A_RUN, options.kills - done)
            began = time.perf_counter()
            moments = killed(COMMANDS[name], folder, most, length[name], draw)
            if not moments:
                # The machine is faster now: kill earlier.
                length[name] = min(length[name], time.perf_counter() - began)
            done += len(moments)
            other = differences(expected[name], content(folder))
            different += bool(other)
            told = ", ".join(moments) or "ended before its kills"
            print(f"{folder.name}: {told}: {other or 'equal'}", flush=True)
            number += 1
    print(f"{done} kills, {number} runs, {different} differ")
    return 1 if different else 0


def killed(
    command: list[str],
    folder: pathlib.Path,
    most: int,
    length: float,
    draw: random.Random,
) -> list[str]:
    """Runs a command to its end, with up to `most` kills; returns their moments."""
    moments: list[str] = []
    while True:
        resume = ["--resume"] if (folder / "config.toml").exists() else []
        process = subprocess.Popen(
            [*PROGRAM, *command, "--out", folder, *resume],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        after = draw.uniform(0.0, length) if len(moments) < most else None
        try:
            _, errors = process.communicate(timeout=after)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            moments.append(f"killed after {after:.1f} s ({stage(folder)})")
            continue
        if process.returncode:
            raise SystemExit(f"{folder}: exit code {process.returncode}: {errors}")
        return moments


def stage(folder: pathlib.Path) -> str:
    """How far a run had come: the newest of its parts."""
    parts = {
        "result": ["evaluation.json", "comparison.json"],
        "model saved": ["maml.keras", "*/maml.keras"],
        "in training": ["backup", "*/backup"],
        "before the first backup": ["config.toml"],
    }
    for name, patterns in parts.items():
        if any(any(folder.glob(pattern)) for pattern in patterns):
            return name
    return "not begun"


def content(folder: pathlib.Path) -> dict[str, Any]:
    """Everything in a finished run that must be equal, by file."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("maml.keras")):
        with zipfile.ZipFile(path) as file, file.open("model.weights.h5") as weights:
            found[str(path.relative_to(folder))] = arrays(weights)
    for path in sorted(folder.rglob("history.jsonl")):
        rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        found[str(path.relative_to(folder))] = [untimed(row) for row in rows]
    # A run that was killed after its evaluation is evaluated again.
    for path in folder.glob("evaluation*.json"):
        found.setdefault("evaluation", []).append(untimed(read(path)))
    if (folder / "comparison.json").exists():
        found["comparison"] = {
            name: untimed(figures)
            for name, figures in untimed(read(folder / "comparison.json")).items()
        }
    return found


def arrays(file: Any) -> dict[str, tuple[str, bytes]]:
    """The bits of all weights and optimizer variables in a file."""
    found: dict[str, tuple[str, bytes]] = {}

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            value = np.asarray(item)
            found[name] = (str(value.dtype), value.tobytes())

    with h5py.File(file) as weights:
        weights.visititems(visit)
    return found


def differences(expected: dict[str, Any], found: dict[str, Any]) -> str:
    """The parts that differ, or an empty text."""
    names = sorted(expected.keys() | found.keys())
    evaluations = found.get("evaluation", [])
    if any(result != expected["evaluation"][0] for result in evaluations):
        return "DIFFERENT figures"
    names = [n for n in names if n != "evaluation" or not evaluations]
    other = [n for n in names if not equal(expected.get(n), found.get(n))]
    return f"DIFFERENT {', '.join(other)}" if other else ""


def equal(expected: Any, found: Any) -> bool:
    """Whether two parts are equal, in all figures that do not depend on the clock.

    The time that is left decides after which epochs `Watch` looks at validation tasks:
    only looks at the same epoch must agree.
    """
    if not (isinstance(expected, list) and isinstance(found, list)):
        return bool(expected == found)
    return len(expected) == len(found) and all(
        ours.get(name) == theirs.get(name)
        for ours, theirs in zip(expected, found)
        for name in ours.keys() | theirs.keys()
        if not name.startswith(LOOK) or (name in ours and name in theirs)
    )


def untimed(row: dict[str, Any]) -> dict[str, Any]:
    """The figures that do not depend on the clock."""
    return {name: value for name, value in row.items() if name not in TIMES}


def read(path: pathlib.Path) -> Any:
    """The content of a JSON file."""
    return json.loads(path.read_text("utf-8"))


if __name__ == "__main__":
    sys.exit(main())

"""`python -m benchmarks --device gpu`: some workloads on one GPU, in a few minutes."""

from __future__ import annotations

import argparse
import datetime
import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks import machine, report, runner
from benchmarks.process import Process
from benchmarks.workloads import WORKLOADS

CHOSEN = ["W1-1", "W2-1", "W2-5", "W3-5", "W4"]
PEERS = ["ours", "ours_bare", "jax", "torch_func"]
RESULTS = report.FOLDER / "RESULTS-gpu.md"
# The rest of a workload's time is for gradients and for the final rounds.
TRYING = 0.6
NO_GPU = (
    "--device gpu needs a GPU that TensorFlow sees. Received: a machine on which "
    "TensorFlow lists none. Install `maml_keras[gpu]` and a driver, or try the program "
    "on the processor with --device gpu --trial FILE."
)
NOTE = (
    "All libraries may use TF32 for float32 products. Peak memory is that of the GPU. "
    "Each workload has its part of the time: settings that came too late were left out."
)
TRIAL = (
    "**A trial of the program on a processor, with two tasks a batch. These are no "
    "figures of a GPU.**"
)


def run(arguments: argparse.Namespace, command: str) -> int:
    """Measures, and writes `RESULTS-gpu.md`, or the file of a trial.

    Args:
        arguments: what the command line says.
        command: the command line, for the report.

    Returns:
        The exit code: 2 if there is no GPU, else 0.
    """
    described = machine.describe()
    described["matmul_gflops"] = described.pop("numpy_gflops")
    if arguments.trial:
        path, fixed, note = Path(arguments.trial), {"small": True}, TRIAL
    else:
        with Process(sys.executable, "ours", "W1-1", {}, limit=120) as process:
            found = process.ask("gpu")
        if found is None:
            _say(NO_GPU)
            return 2
        described.update(gpu=found["name"], matmul_gflops=found["gflops"])
        path, fixed, note = RESULTS, {"device": "gpu"}, NOTE
    plan = runner.Plan(
        peers=[p for p in PEERS if p in arguments.peers],
        peer_python=arguments.peer_python,
        rounds=min(arguments.rounds, 3),
        seconds=min(arguments.seconds, 2.0),
        cap=min(arguments.cap, 60.0),
        log=_say,
        listing="gpu_variants",
        fixed=fixed,
    )
    names = [name for name in CHOSEN if name in arguments.workloads]
    end = time.monotonic() + 60.0 * arguments.minutes
    measured = []
    for i, name in enumerate(names):
        share = (end - time.monotonic()) / (len(names) - i)
        timed = replace(plan, until=time.monotonic() + TRYING * share)
        measured.append(_measured(name, timed, described, command))
        path.write_text(report.text(measured, note))
        if not arguments.trial:
            kept = report.RESULTS / f"gpu-{name}.json"
            kept.write_text(json.dumps(measured[-1], indent=1) + "\n")
    return 0


def _measured(
    name: str, plan: runner.Plan, described: dict[str, Any], command: str
) -> dict[str, Any]:
    workload = WORKLOADS[name]
    if plan.fixed.get("small"):
        workload = workload.small()
    return {
        "workload": name,
        "about": workload.about,
        "gflop": workload.flops() / 1e9,
        "date": datetime.date.today().isoformat(),
        "command": command,
        "machine": described,
        "rounds": plan.rounds,
        "seconds": plan.seconds,
        "cap": plan.cap,
        "peers": runner.run(name, plan),
    }


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)  # noqa: T201

"""`python -m benchmarks`: measures, writes `results/*.json` and `RESULTS.md`."""

from __future__ import annotations

import argparse
import datetime
import json
import sys

from benchmarks import gpu, machine, report, runner
from benchmarks.peers import PEERS
from benchmarks.process import PeerError, Process
from benchmarks.workloads import WORKLOADS


def main() -> None:
    """Runs the chosen workloads, one after the other."""
    arguments = _arguments()
    if arguments.device == "gpu":
        sys.exit(gpu.run(arguments, _command()))
    if not arguments.report_only:
        plan = runner.Plan(
            peers=arguments.peers,
            peer_python=arguments.peer_python,
            rounds=arguments.rounds,
            seconds=arguments.seconds,
            cap=arguments.cap,
            log=lambda line: print(line, file=sys.stderr, flush=True),  # noqa: T201
        )
        described = machine.describe()
        described["matmul_gflops"] = max(described.pop("numpy_gflops"), _tensorflow())
        for name in arguments.workloads:
            workload = WORKLOADS[name]
            measured = {
                "workload": name,
                "about": workload.about,
                "gflop": workload.flops() / 1e9,
                "date": datetime.date.today().isoformat(),
                "command": _command(),
                "machine": described,
                "rounds": plan.rounds,
                "seconds": plan.seconds,
                "cap": plan.cap,
                "peers": runner.run(name, plan),
            }
            report.RESULTS.mkdir(exist_ok=True)
            path = report.RESULTS / f"{name}.json"
            path.write_text(json.dumps(measured, indent=1) + "\n")
            report.write()
    report.write()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--workloads", nargs="+", choices=WORKLOADS, default=list(WORKLOADS)
    )
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=list(PEERS))
    parser.add_argument(
        "--rounds", type=int, default=5, help="number of time slices of each peer"
    )
    parser.add_argument(
        "--seconds", type=float, default=3.0, help="length of a time slice"
    )
    parser.add_argument(
        "--cap", type=float, default=300.0, help="seconds allowed to try one setting"
    )
    parser.add_argument(
        "--peer-python",
        default=sys.executable,
        metavar="PATH",
        help="interpreter of the peers, if they are installed elsewhere",
    )
    parser.add_argument(
        "--device", choices=["cpu", "gpu"], default="cpu", help="what to measure on"
    )
    parser.add_argument(
        "--minutes", type=float, default=8.0, help="time of all workloads on a GPU"
    )
    parser.add_argument(
        "--trial",
        metavar="FILE",
        help="with --device gpu: runs the program on the processor with two tasks, and "
        "writes its report to FILE",
    )
    parser.add_argument(
        "--report-only", action="store_true", help="only write RESULTS.md again"
    )
    return parser.parse_args()


def _command() -> str:
    words = list(sys.argv[1:])
    if "--peer-python" in words:
        words[words.index("--peer-python") + 1] = "PATH"
    return " ".join(["python -m benchmarks", *words])


def _tensorflow() -> float:
    try:
        with Process(sys.executable, "ours", "W1-1", {}, limit=120) as process:
            return float(process.ask("matmul"))
    except PeerError:
        return 0.0


if __name__ == "__main__":
    main()

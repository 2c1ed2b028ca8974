"""What several GPUs and machines would gain: a model on measured numbers, and its plot.

    python -m benchmarks.growth     # prints a table, writes docs/growth.png

`t(W) = ceil(N / W) task + fixed + 2 x 2 (W - 1) latency + 2 (W - 1) / W bytes / rate`

for N tasks on W devices: the tasks of the busiest device, what a step costs whatever
its tasks, and two rings of messages, one for the gradients and one for the sums of the
metrics, whose few bytes do not count. On one device the step is the measured one. The
time of a task comes from `results/*.json`, `fixed` from `results/scaling.json`.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.workloads import WORKLOADS

FOLDER = Path(__file__).parent
PICTURE = FOLDER.parent / "docs" / "growth.png"
SHOWN = ["W1-1", "W2-1", "W2-5", "W3-5"]


@dataclass(frozen=True)
class Link:
    """What carries the messages.

    Attributes:
        latency: float, milliseconds of one message.
        rate: float, bytes in a millisecond.
    """

    latency: float
    rate: float

    def ring(self, devices: int, size: float) -> float:
        """Milliseconds of an all-reduce of so many bytes in a ring."""
        hops, sent = 2 * (devices - 1), 2 * (devices - 1) / devices * size
        return hops * self.latency + sent / self.rate


@dataclass(frozen=True)
class Work:
    """A meta-step and its tasks.

    Attributes:
        tasks: int, of a batch.
        task: float, milliseconds of one of them.
        alone: float, milliseconds of the step on one device.
        fixed: float, milliseconds that a shared step costs beside tasks and messages.
        size: float, bytes of the gradients.
    """

    tasks: int
    task: float
    alone: float
    fixed: float
    size: float

    def beside_tasks(self, devices: int, link: Link) -> float:
        """Milliseconds of a shared step that are not spent on tasks."""
        return self.fixed + link.ring(devices, self.size) + link.ring(devices, 0.0)

    def speedup(self, devices: int, link: Link) -> float:
        """How many times as fast the same batch is."""
        if devices == 1:
            return 1.0
        busiest = math.ceil(self.tasks / devices) * self.task
        return self.alone / (busiest + self.beside_tasks(devices, link))

    def efficiency(self, devices: int, link: Link) -> float:
        """Share of the ideal if each device gets as many tasks as one had."""
        if devices == 1:
            return 1.0
        shared = self.tasks * self.task + self.beside_tasks(devices, link)
        return self.alone / shared

    def worth(self, devices: int, link: Link) -> int:
        """Tasks of a batch from which on half of the time goes into tasks."""
        return devices * math.ceil(self.beside_tasks(devices, link) / self.task)

    def best(self, devices: Iterable[int], link: Link) -> tuple[int, float]:
        """The number of devices that is fastest on the same batch, and its gain."""
        gain, fewest = max((self.speedup(w, link), -w) for w in devices)
        return -fewest, gain

    def on_gpu(self) -> Work:
        """The assumed step on a GPU."""
        task = self.task / GPU_SPEED
        alone = GPU_FIXED + self.tasks * task
        return Work(self.tasks, task, alone, GPU_FIXED, self.size)


# Measured between two processes of one machine: an all-reduce of one float took 2.6 ms,
# and of 112,000 floats 4.4 ms.
WORKERS = Link(latency=2.6 / 2, rate=4 * 112_000 / (4.4 - 2.6))
# Assumed, because no GPU was at hand: a message through PCIe, and a GPU that is so many
# times as fast as the two cores, but needs so many milliseconds for any step.
GPUS = Link(latency=0.02, rate=10e6)
GPU_SPEED, GPU_FIXED = 20.0, 3.0


def fixed_cost() -> float:
    """Milliseconds of a step with no tasks: the line through 1 to 8 measured tasks."""
    points = json.loads((FOLDER / "results" / "scaling.json").read_text())["tasks"]
    few = [p for p in points if p["tasks"] <= 8]
    line = statistics.linear_regression(
        [p["tasks"] for p in few], [p["ms"] for p in few]
    )
    return line.intercept


def measured(name: str) -> Work:
    """A workload as it was measured on two cores."""
    results = json.loads((FOLDER / "results" / f"{name}.json").read_text())
    workload = WORKLOADS[name]
    alone = statistics.median(results["peers"]["ours"]["ms"])
    size = 4.0 * sum(w.size for w in workload.weights())
    return Work(workload.tasks, alone / workload.tasks, alone, fixed_cost(), size)


def table() -> str:
    """The numbers of the plot, as Markdown."""
    rows = [
        "| workload, tasks of a batch | alone, ms | best number of workers (gain) | "
        "tasks from which 10 / 100 workers pay | best of 8 assumed GPUs (gain) |",
        "|---|---|---|---|---|",
    ]
    for name in SHOWN:
        work = measured(name)
        workers, gain = work.best(range(1, 101), WORKERS)
        gpus, faster = work.on_gpu().best(range(1, 9), GPUS)
        worth = " / ".join(f"{work.worth(w, WORKERS):,}" for w in (10, 100))
        rows.append(
            f"| {name} {WORKLOADS[name].about}, {work.tasks} | {work.alone:,.3g} | "
            f"{workers} ({gain:.1f}) | {worth} | {gpus} ({faster:.1f}) |"
        )
    return "\n".join(rows)


def draw(path: Path) -> None:
    """Gain of the same batch above, efficiency of a growing batch below."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    columns = [
        ("workers, messages as measured on one machine", WORKERS, range(1, 101)),
        ("GPUs of one machine, all assumed", GPUS, range(1, 9)),
    ]
    figure, axes = pyplot.subplots(2, 2, figsize=(10, 7), constrained_layout=True)
    for column, (title, link, devices) in enumerate(columns):
        above, below = axes[:, column]
        above.plot(devices, devices, color="grey", linestyle=":", label="ideal")
        for name in SHOWN:
            work = measured(name) if link is WORKERS else measured(name).on_gpu()
            label = f"{name}, {work.tasks} tasks"
            above.plot(devices, [work.speedup(w, link) for w in devices], label=label)
            below.plot(
                devices,
                [100 * work.efficiency(w, link) for w in devices],
                label=f"{name}, {work.tasks} tasks each",
            )
        above.set(title=title, ylabel="times as fast, the same batch")
        above.set_yscale("log")
        above.set_ylim(0.1, 40 if link is WORKERS else 10)
        above.yaxis.set_major_formatter("{x:g}")
        below.set(xlabel=title.split(",")[0], ylabel="% of the ideal, a growing batch")
        below.set_ylim(0, 105)
        for axis in (above, below):
            if link is WORKERS:
                axis.set_xscale("log")
            axis.xaxis.set_major_formatter("{x:g}")
            axis.grid(alpha=0.3)
            axis.legend(fontsize="small")
    figure.savefig(path, dpi=100)


def main() -> None:
    """Prints the table and draws the picture."""
    print(table())  # noqa: T201
    draw(PICTURE)


if __name__ == "__main__":
    main()

"""Several algorithms on the same new tasks, task by task."""

from __future__ import annotations

import json
import pathlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras

from maml_keras import baselines, data, recipes, runs
from maml_keras.evaluation import Evaluation, half_width
from maml_keras.plots import plot_curves
from maml_keras.presets import Preset

PROBE_STEPS = 20


@dataclass(frozen=True)
class Comparison:
    """Evaluations of several algorithms on identical test episodes.

    Attributes:
        results: an `Evaluation` by the algorithm's name; the first is the reference.
        iterations: meta-steps by name.
        seconds: training time by name, compilation included.
    """

    results: dict[str, Evaluation]
    iterations: dict[str, int]
    seconds: dict[str, float]

    def difference(self, name: str, step: int = -1) -> tuple[float, float]:
        """Mean of an algorithm's metric minus the reference's, and its half-width.

        Paired: both saw the same tasks, so what makes a task hard cancels. Tasks on
        which either diverged are left out.

        Args:
            name: str, an algorithm.
            step: int, the adaptation step; the last by default.
        """
        ours, reference = self.results[name], next(iter(self.results.values()))
        lost = ours.diverged_tasks[:, step] | reference.diverged_tasks[:, step]
        gap = ours.per_episode[:, step] - reference.per_episode[:, step]
        gap = gap[~lost]
        return (float(gap.mean()) if gap.size else float("nan")), half_width(gap)

    def table(self) -> str:
        """Markdown: mean ± half-width at some steps, the paired difference at the last.

        The steps are 0, 1, 5, 10 as far as the evaluation goes, and its last.
        """
        first, *_ = self.results
        reference = self.results[first]
        last = reference.steps
        steps = sorted({k for k in (0, 1, 5, 10) if k < last} | {last})
        head = [
            "algorithm",
            "meta-steps",
            "train s",
            *(f"step {k}" for k in steps),
            "median",
            "diverged",
            f"step {last} - {first}",
        ]
        rows = []
        for name, result in self.results.items():
            mean, half = self.difference(name)
            cells = [
                f"{_form(result, result.curve[k])} ± "
                f"{_form(result, result.half_widths[k])}"
                for k in steps
            ]
            rows.append(
                [
                    name,
                    f"{self.iterations[name]:,}",
                    f"{self.seconds[name]:.0f}",
                    *cells,
                    _form(result, result.medians[-1]),
                    str(result.diverged[-1]),
                    "" if name == first else _signed(result, mean, half),
                ]
            )
        return "\n".join(
            f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *rows]
        )

    def __str__(self) -> str:
        result = next(iter(self.results.values()))
        policies = {r.batch_norm for r in self.results.values()}
        return (
            f"{result.metric}, mean ± 95% half-width over {result.num_tasks} identical "
            f"tasks, {result.queries} queries a task; differences are paired; batch "
            f"norm: {', '.join(sorted(policies))}"
        )

    def summary(self) -> dict[str, Any]:
        """The figures as plain data."""
        return {
            name: {
                **result.summary(),
                "iterations": self.iterations[name],
                "seconds": self.seconds[name],
                "difference": list(self.difference(name)),
            }
            for name, result in self.results.items()
        }


def compare(
    preset: Preset,
    algorithms: Sequence[str],
    folder: str | pathlib.Path,
    *,
    iterations: int | None = None,
    seconds: float | None = None,
    num_tasks: int = 600,
    steps: int | None = None,
    seed: int = 0,
    data_dir: str | None = None,
    download: bool = False,
    verbose: str | int = "auto",
    command: str = "",
) -> Comparison:
    """Trains each algorithm on a preset, and tests all on the same episodes.

    The folder gets a run folder for each, `comparison.json`, `comparison.md` and
    `comparison.png`. An algorithm that is there already is not trained again, so an
    interrupted comparison goes on where it stopped.

    Args:
        preset: the tasks, the network and the schedule.
        algorithms: names of recipes, or of `baselines.BASELINES`; the first is what
            the others are compared with.
        folder: where to write.
        iterations: int, meta-steps of each; None for the preset's.
        seconds: float, training time of each in place of a number of meta-steps: as
            many as a short probe says that fit, compilation not counted.
        num_tasks: int, test tasks.
        steps: int, adaptation steps; None for the preset's.
        seed: int, draws weights and training episodes, the same for all.
        data_dir: str, where TFDS data sets lie.
        download: bool, whether TFDS may download.
        verbose: as in `keras.Model.fit`.
        command: str, noted in the folder.

    Returns:
        A `Comparison`.

    Raises:
        ValueError: if an algorithm is not known, or given twice.
    """
    known = {*recipes.RECIPES, *baselines.BASELINES}
    unknown = [name for name in algorithms if name not in known]
    if unknown or len(set(algorithms)) < max(1, len(algorithms)):
        raise ValueError(
            f"`algorithms` must be different names out of {', '.join(sorted(known))}. "
            f"Received: {', '.join(algorithms)}."
        )
    folder = pathlib.Path(folder)
    where: dict[str, Any] = {"data_dir": data_dir, "download": download}
    results: dict[str, Evaluation] = {}
    counts: dict[str, int] = {}
    times: dict[str, float] = {}
    for name in algorithms:
        total = iterations
        if seconds is not None:
            total = _fitting(preset, name, seconds, where)
        count = preset.iterations if total is None else total
        if name in baselines.BASELINES:
            started = time.perf_counter()
            maml, families = baselines.BASELINES[name](
                preset, iterations=count, seed=seed, verbose=verbose, **where
            )
            times[name] = time.perf_counter() - started
            results[name] = runs.evaluate_on(
                maml,
                families,
                steps=preset.evaluation_steps if steps is None else steps,
                num_tasks=num_tasks,
                verbose=verbose,
            )
            counts[name] = count
            continue
        maml, counts[name], times[name] = _trained(
            preset, name, folder / name, total, seed, where, verbose, command
        )
        results[name] = runs.evaluate(
            maml, preset, steps=steps, num_tasks=num_tasks, verbose=verbose, **where
        )
    comparison = Comparison(results, counts, times)
    text = f"{preset.title}\n\n`{command}`\n\n{comparison.table()}\n\n{comparison}\n"
    (folder / "comparison.md").write_text(text, encoding="utf-8")
    (folder / "comparison.json").write_text(
        json.dumps({"command": command, **comparison.summary()}, indent=2) + "\n",
        encoding="utf-8",
    )
    plot_curves(
        results,
        folder / "comparison.png",
        log=not next(iter(results.values())).higher_is_better,
    )
    return comparison


def _trained(
    preset: Preset,
    name: str,
    folder: pathlib.Path,
    iterations: int | None,
    seed: int,
    where: dict[str, Any],
    verbose: str | int,
    command: str,
) -> tuple[Any, int, float]:
    timing = folder / "seconds.json"
    if not timing.exists():
        started = time.perf_counter()
        runs.train(
            preset,
            folder,
            algorithm=name,
            iterations=iterations,
            seed=seed,
            resume=(folder / runs.CONFIG).exists(),
            verbose=verbose,
            command=command,
            **where,
        )
        timing.write_text(json.dumps(time.perf_counter() - started), encoding="utf-8")
    maml, _, config = runs.load(folder)
    seconds = float(json.loads(timing.read_text(encoding="utf-8")))
    return maml, int(config["iterations"]), seconds


def _fitting(
    preset: Preset, name: str, seconds: float, where: dict[str, Any]
) -> int | None:
    """How many meta-steps take so long, measured on a model that is thrown away."""
    maml = preset.build(name if name in recipes.RECIPES else "maml")
    episodes = data.episodes(
        preset.families(**where).train, batch_size=preset.tasks, seed=0
    )
    for _ in range(2):  # The first compiles.
        started = time.perf_counter()
        maml.fit(episodes, steps_per_epoch=PROBE_STEPS, verbose=0)
        elapsed = time.perf_counter() - started
    keras.utils.clear_session()
    count = int(seconds / elapsed * PROBE_STEPS)
    return max(1, count if count < preset.epoch else count - count % preset.epoch)


def _form(result: Evaluation, value: float) -> str:
    return f"{value:.1%}" if result.metric == "accuracy" else f"{value:.3g}"


def _signed(result: Evaluation, mean: float, half: float) -> str:
    if result.metric == "accuracy":
        return f"{mean:+.1%} ± {half:.1%}"
    return f"{mean:+.3g} ± {half:.2g}"

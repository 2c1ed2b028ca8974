"""Compares several algorithms on the same test tasks, task by task."""

from __future__ import annotations

import dataclasses
import difflib
import json
import logging
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from maml_keras import recipes
from maml_keras.evaluation.plots import plot_comparison
from maml_keras.evaluation.result import Evaluation, half_width
from maml_keras.experiments import baselines, run_folder, run_lock, runs
from maml_keras.experiments.compared_algorithm import Contender
from maml_keras.experiments.own_settings import VALIDATION_TASKS, Choice, Grid, grid
from maml_keras.experiments.preset import Preset
from maml_keras.monitoring import figures
from maml_keras.monitoring.tensorboard_hparams import settings_of, write_contenders

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Evaluations of several algorithms on identical test episodes.

    Attributes:
        results: an `Evaluation` by the algorithm's name; the first is the reference.
        iterations: meta-steps taken, by name; for a baseline, gradient steps.
        seconds: training time used, by name, without compilation.
        choices: the inner rate and the steps that a baseline chose on validation
            tasks, by name. Its result has at least that many steps.
        grid: the rates and steps among which baselines chose; None without choices.

    >>> diverged = np.zeros([2, 2], bool)
    >>> far, near = (
    ...     Evaluation("loss", np.array([[2.0, end], [1.0, end]]), diverged,
    ...                "transductive", 5, False) for end in (0.5, 0.25))
    >>> trained, seconds = {"maml": 70, "anil": 70}, {"maml": 2.0, "anil": 1.0}
    >>> comparison = Comparison({"maml": far, "anil": near}, trained, seconds)
    >>> comparison.difference("anil")  # The mean and its 95% half-width.
    (-0.25, 0.0)
    """

    results: dict[str, Evaluation]
    iterations: dict[str, int]
    seconds: dict[str, float]
    choices: dict[str, Choice] = dataclasses.field(default_factory=dict)
    grid: Grid | None = None

    @property
    def steps(self) -> int:
        """The adaptation steps of the algorithms; some baselines have other steps."""
        return min(result.steps for result in self.results.values())

    def end(self, name: str) -> int:
        """The last adaptation step that counts for an algorithm or a baseline."""
        return self.choices[name].steps if name in self.choices else self.steps

    def difference(self, name: str, step: int | None = None) -> tuple[float, float]:
        """Mean of an algorithm's metric minus the reference's, and its half-width.

        The difference is paired: both saw the same tasks, so the difficulty of a task
        cancels. Tasks on which either diverged are left out.

        Args:
            name: str, an algorithm.
            step: int, the adaptation step; None for the end of each, which for a
                baseline is the number of steps that it chose.
        """
        first, *_ = self.results
        ours, reference = self.results[name], self.results[first]
        i, k = (self.end(n) if step is None else step for n in (name, first))
        lost = ours.diverged_tasks[:, i] | reference.diverged_tasks[:, k]
        gap = ours.per_episode[:, i] - reference.per_episode[:, k]
        gap = gap[~lost]
        return (float(gap.mean()) if gap.size else float("nan")), half_width(gap)

    def table(self) -> str:
        """The comparison as a Markdown table, one row for each algorithm.

        A row shows mean ± half-width after 0, 1, 5, 10 and the last of the evaluated
        steps, and the paired difference after the last step. For a baseline that chose
        its own rate, all cells are with this rate; the cell `own choice` has the mean
        after its own number of steps, and so do median, diverged tasks and difference.
        If diverged tasks are left out of a mean, the cell states how many tasks remain.
        If half of the tasks or more diverged, the median's cell is `diverged`.
        """
        first, *_ = self.results
        last = self.steps
        steps = sorted({k for k in (0, 1, 5, 10) if k < last} | {last})
        own = ["own choice"] if self.choices else []
        head = [
            "algorithm",
            "meta-steps",
            "train s",
            *(f"step {k}" for k in steps),
            *own,
            "median",
            "diverged",
            f"end - {first}" if own else f"step {last} - {first}",
            "batch norm",
        ]
        rows = []
        for name, result in self.results.items():
            mean, half = self.difference(name)
            end = self.end(name)
            cells = [_mean_cell(result, k) for k in steps]
            if own:
                chosen = self.choices.get(name)
                cells.append(f"{_mean_cell(result, end)} ({chosen})" if chosen else "")
            rows.append(
                [
                    name,
                    f"{self.iterations[name]:,}",
                    _seconds(self.seconds[name]),
                    *cells,
                    _figure_cell(result, result.medians[end]),
                    _count_cell(result.diverged[end], result),
                    "" if name == first else _difference_cell(result, mean, half),
                    result.batch_norm,
                ]
            )
        return "\n".join(
            f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *rows]
        )

    def __str__(self) -> str:
        result = next(iter(self.results.values()))
        return (
            f"{result.metric}, mean ± 95% half-width over {result.num_tasks} identical "
            f"tasks, diverged ones left out, {result.queries_text}; "
            "differences are paired" + self._chosen_text()
        )

    def _chosen_text(self) -> str:
        if not self.choices:
            return ""
        return (
            f"; {' and '.join(self.choices)} chose on {VALIDATION_TASKS} validation "
            f"tasks from {self.grid}" + self._edges_text()
        )

    def _edges_text(self) -> str:
        assert self.grid is not None
        edges = {name: self.grid.edges(c) for name, c in self.choices.items()}
        told = [f"{name} chose {' and '.join(e)}" for name, e in edges.items() if e]
        if not told:
            return ""
        return (
            f"; at the end of this grid, {', '.join(told)}: a larger grid may be better"
        )

    def summary(self) -> dict[str, Any]:
        """The figures as plain data that JSON can hold."""
        return {
            name: {
                **result.summary(),
                "iterations": self.iterations[name],
                "seconds": self.seconds[name],
                "difference": _json_figures(self.difference(name)),
                "differences": [
                    _json_figures(self.difference(name, step))
                    for step in range(self.steps + 1)
                ],
                **(
                    {"chosen": {**self.choices[name]._asdict(), "from": str(self.grid)}}
                    if name in self.choices
                    else {}
                ),
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
    announce: Callable[[str], None] | None = None,
) -> Comparison:
    """Trains each algorithm on a preset, and tests all on the same episodes.

    The folder gets a run folder for each algorithm, `comparison.json`, `comparison.md`
    and `comparison.png`. Its subfolder `test` gets a TensorBoard run for each
    algorithm, which TensorBoard's page HParams shows. An algorithm that is already
    trained in the folder is not trained again, so an interrupted comparison continues
    where it stopped.

    Args:
        preset: the tasks, the network and the schedule.
        algorithms: names of recipes or of baselines (`BASELINES`); the others are
            compared with the first.
        folder: a new folder, or the folder of a comparison to continue.
        iterations: int, meta-steps of each algorithm; None for the preset's.
        seconds: float, training time of each algorithm, in place of a number of
            meta-steps. Compilation, looks at validation tasks and backups do not
            count. Outer rates follow their schedules by the share of the time used;
            see `runs.train`.
        num_tasks: int, test tasks.
        steps: int, adaptation steps; None for the preset's.
        seed: int, draws weights and training episodes, the same for all algorithms.
        data_dir: str, folder of the TFDS data sets.
        download: bool, whether TFDS may download.
        verbose: as in `keras.Model.fit`.
        command: str, recorded in the folder; by default this call.
        announce: called with a line such as `"anil (3 of 6)"` when each begins.

    Returns:
        A `Comparison`.

    Raises:
        ValueError: if an algorithm is unknown, given twice, or not made for the
            preset's tasks.
        BlockingIOError: if another process compares in the folder.
        FileExistsError: if the folder holds something other than a comparison.
    """
    known = {*recipes.RECIPES, *baselines.BASELINES}
    unknown = [name for name in algorithms if name not in known]
    if unknown or len(set(algorithms)) < max(1, len(algorithms)):
        near = [n for u in unknown for n in difflib.get_close_matches(u, known, n=1)]
        hint = f" Did you mean {', '.join(map(repr, near))}?" if near else ""
        raise ValueError(
            f"`algorithms` must be different names from {', '.join(sorted(known))}. "
            f"Received: {', '.join(algorithms)}.{hint}"
        )
    if num_tasks < 1:
        raise ValueError(f"`num_tasks` must be positive. Received: {num_tasks}.")
    settings: dict[str, Any] = {
        "preset": preset.name,
        "algorithms": list(algorithms),
        "iterations": iterations,
        "seconds": seconds,
        "seed": seed,
        "steps": steps,
        "tasks": num_tasks,
        "data_dir": data_dir,
    }
    with run_lock.held(folder) as held:
        return _compare(preset, held, settings, download, verbose, command, announce)


def _compare(
    preset: Preset,
    folder: pathlib.Path,
    settings: dict[str, Any],
    download: bool,
    verbose: str | int,
    command: str,
    announce: Callable[[str], None] | None,
) -> Comparison:
    """Compares as `compare` does, in a folder that this process holds."""
    _check_folder(folder)
    settings = _with_kept_settings(folder, settings)
    command = command or _python_call(settings)
    algorithms, seed = settings["algorithms"], settings["seed"]
    iterations, seconds = settings["iterations"], settings["seconds"]
    if settings["steps"] is not None:
        # Validation in training takes these steps, too, so that the learning curve
        # ends at the figure in the table.
        preset = dataclasses.replace(preset, evaluation_steps=settings["steps"])
    where: dict[str, Any] = {"data_dir": settings["data_dir"], "download": download}
    for name in algorithms:
        # Every algorithm is checked before the first is trained: the last one's turn
        # may come hours later.
        Contender.check(preset, name, where, iterations, seconds)
    run_folder.write_config(folder, settings, program="compare", command=command)
    results: dict[str, Evaluation] = {}
    counts: dict[str, int] = {}
    times: dict[str, float] = {}
    histories: dict[str, list[dict[str, float]]] = {}
    described: dict[str, dict[str, Any]] = {}
    choices: dict[str, Choice] = {}
    for number, name in enumerate(algorithms, start=1):
        if announce is not None:
            announce(f"{name} ({number} of {len(algorithms)})")
        contender = Contender(preset, name, folder / name, seed, where, verbose)
        maml, families = contender.trained(iterations, seconds, command)
        counts[name], times[name] = contender.iterations, contender.seconds
        histories[name] = runs.history(folder / name)
        if contender.choice is not None:
            choices[name] = contender.choice
        described[name] = {**settings_of(maml), "meta-steps": counts[name]}
        results[name] = runs.evaluate_on(
            maml,
            families,
            steps=max(preset.evaluation_steps, contender.own_steps),
            num_tasks=settings["tasks"],
            verbose=verbose,
        )
    comparison = Comparison(
        results, counts, times, choices, grid(preset) if choices else None
    )
    text = f"{preset.title}\n\n`{command}`\n\n{comparison.table()}\n\n{comparison}\n"
    (folder / "comparison.md").write_text(text, encoding="utf-8")
    (folder / "comparison.json").write_text(
        json.dumps({"command": command, **comparison.summary()}, indent=2) + "\n",
        encoding="utf-8",
    )
    ends = {name: r.until(comparison.end(name)) for name, r in results.items()}
    write_contenders(folder / "test", described, ends, times)
    if figures.can_draw():
        shown = {name: r.until(comparison.steps) for name, r in results.items()}
        plot_comparison(shown, histories, folder / "comparison.png")
    else:
        logger.warning(
            "No comparison.png: plots need matplotlib (`pip install "
            "'maml_keras[plot]'`). The other files are written."
        )
    return comparison


def _check_folder(folder: pathlib.Path) -> None:
    """Refuses a folder that holds something other than a comparison."""
    begun = (folder / run_folder.CONFIG).exists() and run_folder.read_config(folder)
    # A single run also has this file, but it names one `algorithm`.
    if not run_lock.is_empty(folder) and "algorithms" not in (begun or {}):
        raise FileExistsError(
            "`folder` must be a new folder, or the folder of a comparison to continue. "
            f"Received: {folder}, which holds something else. Choose another."
        )


def _with_kept_settings(
    folder: pathlib.Path, settings: dict[str, Any]
) -> dict[str, Any]:
    """The settings, completed with those that the comparison began with.

    Refuses another preset, seed, length or number of adaptation steps: the algorithms
    that are trained already have the first ones.
    """
    if not (folder / run_folder.CONFIG).exists():
        return settings
    begun = run_folder.read_config(folder)
    names = "preset", "seed", "iterations", "seconds", "steps"
    kept = {k: begun.get(k) for k in names}
    wanted = {k: settings[k] for k in kept if settings[k] is not None}
    if any(kept[k] != v for k, v in wanted.items()):
        raise ValueError(
            "A comparison must continue with the settings it began with. Received: "
            f"{wanted}, but {folder} began with {kept}. Choose another folder."
        )
    where = settings["data_dir"] or begun.get("data_dir")
    return {**settings, **kept, "data_dir": where}


def _python_call(settings: dict[str, Any]) -> str:
    """The call of `compare` that repeats the figures."""
    names = "iterations", "seconds", "steps", "seed", "data_dir"
    given = {**{name: settings[name] for name in names}, "num_tasks": settings["tasks"]}
    keywords = "".join(f", {k}={v!r}" for k, v in given.items() if v is not None)
    return f"compare(preset, {settings['algorithms']}, folder{keywords})"


def _json_figures(figures: tuple[float, float]) -> list[float | None]:
    # JSON has no NaN, so None stands for a figure that does not exist.
    return [figure if np.isfinite(figure) else None for figure in figures]


def _seconds(value: float) -> str:
    return f"{value:.0f}" if value >= 10.0 else f"{value:.2g}"


def _mean_cell(result: Evaluation, step: int) -> str:
    mean, half = result.curve[step], result.half_widths[step]
    if not np.isfinite(mean):
        return "diverged"
    kept = result.num_tasks - result.diverged[step]
    rest = f" ({kept} tasks)" if result.diverged[step] else ""
    return f"{_figure_cell(result, mean)} ± {_figure_cell(result, half)}{rest}"


def _count_cell(number: int, result: Evaluation) -> str:
    return f"{number} of {result.num_tasks}" if number else "0"


def _figure_cell(result: Evaluation, value: float) -> str:
    if np.isinf(value):
        return "diverged"
    return f"{value:.1%}" if result.metric == "accuracy" else f"{value:.3g}"


def _difference_cell(result: Evaluation, mean: float, half: float) -> str:
    if not np.isfinite(mean):
        return "no task in common"
    if result.metric == "accuracy":
        return f"{mean:+.1%} ± {half:.1%}"
    return f"{mean:+.3g} ± {half:.2g}"

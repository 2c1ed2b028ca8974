"""Compares several algorithms on the same test tasks, for one seed or several."""

from __future__ import annotations

import dataclasses
import difflib
import json
import logging
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

from maml_keras import recipes
from maml_keras.evaluation.over_seeds import check_intervals
from maml_keras.evaluation.plots import plot_comparison, plot_seeds
from maml_keras.evaluation.result import Evaluation
from maml_keras.experiments import baselines, fixed_tasks, run_folder, run_lock, runs
from maml_keras.experiments.compared_algorithm import Contender
from maml_keras.experiments.comparison import Comparison
from maml_keras.experiments.own_settings import Choice
from maml_keras.experiments.preset import Preset
from maml_keras.experiments.seed_comparison import SeedComparison
from maml_keras.monitoring import figures
from maml_keras.monitoring.tensorboard_hparams import settings_of, write_contenders

logger = logging.getLogger(__name__)


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
    seeds: int = 1,
    data_dir: str | None = None,
    download: bool = False,
    verbose: str | int = "auto",
    command: str = "",
    announce: Callable[[str], None] | None = None,
) -> Comparison | SeedComparison:
    """Trains each algorithm on a preset, and tests all on the same episodes.

    The folder gets a run folder for each algorithm, `comparison.json`, `comparison.md`
    and `comparison.png`. Its subfolder `test` gets a TensorBoard run for each
    algorithm, which TensorBoard's page HParams shows. An algorithm that is already
    trained in the folder is not trained again, so an interrupted comparison continues
    where it stopped.

    With several seeds, the folder gets such a folder `seed_<s>` for each seed, and its
    own files hold the means over seeds, `comparison.csv` and `comparison.tex` among
    them. All seeds meet the same test tasks.

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
        seeds: int, how many seeds each algorithm is trained with: `seed`, `seed + 1`,
            and so on.
        data_dir: str, folder of the TFDS data sets.
        download: bool, whether TFDS may download.
        verbose: as in `keras.Model.fit`.
        command: str, recorded in the folder; by default this call.
        announce: called with a line such as `"anil (3 of 6)"` when each begins.

    Returns:
        A `Comparison`; with several seeds, a `SeedComparison`.

    Raises:
        ImportError: if SciPy is missing, which intervals over seeds need.
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
    if seeds < 1:
        raise ValueError(f"`seeds` must be positive. Received: {seeds}.")
    settings: dict[str, Any] = {
        "preset": preset.name,
        "algorithms": list(algorithms),
        "iterations": iterations,
        "seconds": seconds,
        "seed": seed,
        "seeds": seeds,
        "steps": steps,
        "tasks": num_tasks,
        "data_dir": data_dir,
    }
    with run_lock.held(folder) as held:
        _check_folder(held)
        settings = _with_kept_settings(held, settings)
        command = command or _python_call(settings)
        several = settings["seeds"] > 1
        run = _compare_seeds if several else _compare
        return run(preset, held, settings, download, verbose, command, announce)


def _compare_seeds(
    preset: Preset,
    folder: pathlib.Path,
    settings: dict[str, Any],
    download: bool,
    verbose: str | int,
    command: str,
    announce: Callable[[str], None] | None,
) -> SeedComparison:
    """One comparison for each seed, each in a folder of its own."""
    check_intervals()  # Now, not after hours of training.
    run_folder.write_config(folder, settings, program="compare", command=command)
    first, count = settings["seed"], settings["seeds"]
    comparisons: dict[int, Comparison] = {}
    for seed in range(first, first + count):

        def announced(line: str, seed: int = seed) -> None:
            if announce is not None:
                announce(f"seed {seed}: {line}")

        one = compare(
            preset,
            settings["algorithms"],
            folder / f"seed_{seed}",
            iterations=settings["iterations"],
            seconds=settings["seconds"],
            num_tasks=settings["tasks"],
            steps=settings["steps"],
            seed=seed,
            data_dir=settings["data_dir"],
            download=download,
            verbose=verbose,
            command=command,
            announce=announced,
        )
        assert isinstance(one, Comparison)
        comparisons[seed] = one
    result = SeedComparison(comparisons)
    _write(folder, preset, command, result)
    for name, text in {"csv": result.csv(), "tex": result.latex()}.items():
        (folder / f"comparison.{name}").write_text(text + "\n", encoding="utf-8")
    if _can_draw():
        plot_seeds(
            {name: result.run_means(name) for name in result.names},
            {name: result.result(name) for name in result.names},
            {name: result.difference(name) for name in result.names[1:]},
            folder / "comparison.png",
            metric=result.metric,
        )
    return result


def _compare(
    preset: Preset,
    folder: pathlib.Path,
    settings: dict[str, Any],
    download: bool,
    verbose: str | int,
    command: str,
    announce: Callable[[str], None] | None,
) -> Comparison:
    """Compares as `compare` does, with one seed."""
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
        results[name] = fixed_tasks.evaluate_on(
            maml,
            families,
            steps=max(preset.evaluation_steps, contender.own_steps),
            num_tasks=settings["tasks"],
            verbose=verbose,
        )
    comparison = Comparison(
        results,
        counts,
        times,
        choices,
        baselines.grid_of(choices, preset) if choices else None,
    )
    _write(folder, preset, command, comparison)
    ends = {name: r.until(comparison.end(name)) for name, r in results.items()}
    write_contenders(folder / "test", described, ends, times)
    if _can_draw():
        shown = {name: r.until(comparison.steps) for name, r in results.items()}
        plot_comparison(shown, histories, folder / "comparison.png")
    return comparison


def _write(
    folder: pathlib.Path,
    preset: Preset,
    command: str,
    found: Comparison | SeedComparison,
) -> None:
    """Writes the table, and the figures as JSON."""
    text = f"{preset.title}\n\n`{command}`\n\n{found.table()}\n\n{found}\n"
    (folder / "comparison.md").write_text(text, encoding="utf-8")
    (folder / "comparison.json").write_text(
        json.dumps({"command": command, **found.summary()}, indent=2) + "\n",
        encoding="utf-8",
    )


def _can_draw() -> bool:
    if figures.can_draw():
        return True
    logger.warning(
        "No comparison.png: plots need matplotlib (`pip install "
        "'maml_keras[plot]'`). The other files are written."
    )
    return False


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
    that are trained already have the first ones. More seeds continue a comparison.
    """
    if not (folder / run_folder.CONFIG).exists():
        return settings
    begun = run_folder.read_config(folder)
    names = "preset", "seed", "iterations", "seconds", "steps"
    kept = {k: begun.get(k) for k in names}
    # Seeds can be added to several. The runs of one seed lie in other places, and
    # comparisons of earlier versions have one.
    if 1 in (seeds := {begun.get("seeds", 1), settings["seeds"]}) and len(seeds) > 1:
        kept["seeds"] = begun.get("seeds", 1)
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
    names = "iterations", "seconds", "steps", "seed", "seeds", "data_dir"
    given = {**{name: settings[name] for name in names}, "num_tasks": settings["tasks"]}
    if given["seeds"] == 1:
        del given["seeds"]
    keywords = "".join(f", {k}={v!r}" for k, v in given.items() if v is not None)
    return f"compare(preset, {settings['algorithms']}, folder{keywords})"

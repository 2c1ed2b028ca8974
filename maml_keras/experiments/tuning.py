"""Searches settings of a preset on validation tasks, by KerasTuner."""

from __future__ import annotations

import importlib.util
import json
import logging
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from maml_keras.evaluation.metrics import direction
from maml_keras.experiments import (
    changes,
    run_folder,
    run_lock,
    search_space,
    tuning_plot,
)
from maml_keras.experiments.compared_algorithm import epoch_length
from maml_keras.experiments.preset import Preset
from maml_keras.experiments.trials import Training
from maml_keras.experiments.tuned import Tuned, best_of
from maml_keras.monitoring import figures

logger = logging.getLogger(__name__)

ORACLES = "bayesian", "random", "hyperband"
TRIALS = 20
# The folder of the best settings, whose `config.toml` `maml-keras train` takes.
BEST = "best"


def tune(
    preset: Preset,
    search: str | Mapping[str, str | Sequence[Any]],
    folder: str | pathlib.Path,
    *,
    algorithm: str = "maml",
    oracle: str = "bayesian",
    trials: int | None = None,
    iterations: int | None = None,
    num_tasks: int = 100,
    stop_bad: bool = True,
    seed: int = 0,
    data_dir: str | None = None,
    download: bool = False,
    verbose: str | int = "auto",
    command: str = "",
    announce: Callable[[str], None] | None = None,
) -> Tuned:
    """Searches settings of a preset, judged on validation tasks alone.

    Each trial trains with other settings, and with the same first weights and the same
    training episodes. After each epoch it adapts to the same validation tasks. The test
    tasks are not touched.

    The folder gets `config.toml`, which repeats the search, KerasTuner's folder
    `trials`, the table `tuning.md`, `tuning.json`, the picture `tuning.png`, and
    `best/config.toml`, with which `maml-keras train` trains. A search in the folder of
    an interrupted search continues: ended trials are not run again.

    Args:
        preset: the experiment.
        search: the settings and where to search, as text,
            `"inner_rate=0.01:1:log steps=1,3,5"`, or a text or a list of values by
            name. Names are those of `Preset.with_changes`. `LOW:HIGH` is an interval,
            `LOW:HIGH:log` one by factors.
        folder: a new folder, or the folder of a search to continue.
        algorithm: str, the name of a recipe.
        oracle: str, KerasTuner's oracle that proposes settings: `"bayesian"`,
            `"random"` or `"hyperband"`.
        trials: int, how many trials; None for 20. Hyperband has its own number.
        iterations: int, meta-steps of a whole training; None for the preset's.
        num_tasks: int, validation tasks.
        stop_bad: bool, whether to stop a trial that after half of its epochs is
            worse than the median of the earlier trials at the same epoch. Hyperband
            has its own rule.
        seed: int, draws weights, training episodes and the oracle's proposals.
        data_dir: str, folder of the TFDS data sets.
        download: bool, whether TFDS may download.
        verbose: 0 for silence while data is prepared.
        command: str, recorded in the folder; by default this call.
        announce: called with a line when a trial begins or ends.

    Returns:
        A `Tuned`.

    Raises:
        ImportError: if KerasTuner is missing.
        ValueError: if a setting, the oracle or a number does not suit, if the folder's
            search began with other settings, or if no trial trained to its end.
        BlockingIOError: if another process searches in the folder.
        FileExistsError: if the folder holds something other than a search.
    """
    _check_installed()
    if oracle not in ORACLES:
        raise ValueError(
            f"`oracle` must be one of {', '.join(ORACLES)}. Received: {oracle!r}."
        )
    if oracle == "hyperband" and trials is not None:
        raise ValueError(
            "Hyperband has its own number of trials. Received: "
            f"trials={trials}. Leave `trials` out, or take another oracle."
        )
    for name, value in {"trials": trials, "num_tasks": num_tasks}.items():
        if value is not None and value < 1:
            raise ValueError(f"`{name}` must be positive. Received: {value}.")
    space = search_space.read(search_space.text_of(search), algorithm)
    number = TRIALS if trials is None else trials
    with run_lock.held(folder) as held:
        settings = _continued(
            held,
            {
                "preset": preset.name,
                "search": search_space.text_of(search),
                "algorithm": algorithm,
                "oracle": oracle,
                "trials": None if oracle == "hyperband" else number,
                "iterations": iterations,
                "tasks": num_tasks,
                "stop_bad": stop_bad,
                "seed": seed,
                "data_dir": data_dir,
            },
        )
        preset = preset.of(algorithm)
        total = preset.iterations if iterations is None else iterations
        where = {"data_dir": settings["data_dir"], "download": download}
        families = preset.families(**where, verbose=verbose)
        training = Training(
            preset,
            algorithm,
            # The search gets no test tasks, so it cannot use them.
            families._replace(test=families.validation),
            total,
            min(epoch_length(preset, total), total),
            seed,
            num_tasks,
        )
        run_folder.write_config(
            held,
            settings,
            program="tune",
            command=command or _python_call(settings),
        )
        return _tuned(held, training, space, settings, announce or (lambda line: None))


def _tuned(
    folder: pathlib.Path,
    training: Training,
    space: search_space.Space,
    settings: dict[str, Any],
    announce: Callable[[str], None],
) -> Tuned:
    # Imported here: importing maml_keras must work without KerasTuner.
    from maml_keras.experiments import tuner

    untrained = training.untrained()
    higher = bool(direction(untrained.metric))
    found = tuner.Trials(
        tuner.oracle(
            settings["oracle"],
            space,
            higher=higher,
            number=settings["trials"],
            epochs=training.epochs,
            seed=training.seed,
        ),
        folder,
        training,
        untrained=untrained.mean,
        stop_bad=settings["stop_bad"] and settings["oracle"] != "hyperband",
        announce=announce,
    ).searched()
    best = best_of(found, training.epochs, higher=higher)
    result = Tuned(
        training.preset.with_changes(training.algorithm, **best.changes),
        found,
        space,
        untrained.metric,
        higher,
        training.epochs,
        training.num_tasks,
    )
    _write(folder, training, settings, result)
    return result


def _write(
    folder: pathlib.Path,
    training: Training,
    settings: dict[str, Any],
    result: Tuned,
) -> None:
    """Writes the table, the figures, the picture and the best settings."""
    preset = training.preset
    command = run_folder.read_config(folder)["record"]["command"]
    text = f"{preset.title}\n\n`{command}`\n\n{result.table()}\n\n{result}\n"
    (folder / "tuning.md").write_text(text, encoding="utf-8")
    (folder / "tuning.json").write_text(
        json.dumps({"command": command, **result.summary()}, indent=2) + "\n",
        encoding="utf-8",
    )
    (folder / BEST).mkdir(exist_ok=True)
    variation = result.preset.variation(training.algorithm)
    run_folder.write_config(
        folder / BEST,
        {
            "preset": preset.name,
            "algorithm": training.algorithm,
            "iterations": training.iterations,
            "epoch": training.epoch,
            "seed": training.seed,
            "changes": changes.write(variation.changes),
            "data_dir": settings["data_dir"],
        },
        program="train",
        command=command,
    )
    if figures.can_draw():
        tuning_plot.plot(result, folder / "tuning.png")
    else:
        logger.warning(
            "No tuning.png: plots need matplotlib (`pip install "
            "'maml_keras[plot]'`). The other files are written."
        )


def _continued(folder: pathlib.Path, settings: dict[str, Any]) -> dict[str, Any]:
    """The settings, if they are those of the search in the folder, or it is new.

    More trials continue a search.

    Raises:
        FileExistsError: if the folder holds something else.
        ValueError: if the search began with other settings.
    """
    if run_lock.is_empty(folder):
        return settings
    begun: dict[str, Any] = {}
    if (folder / run_folder.CONFIG).exists():
        begun = run_folder.read_config(folder)
    if "search" not in begun:
        raise FileExistsError(
            "`folder` must be a new folder, or the folder of a search to continue. "
            f"Received: {folder}, which holds something else. Choose another."
        )
    free = {"data_dir", "trials"}
    changed = {
        k: begun.get(k)
        for k, v in settings.items()
        if k not in free and begun.get(k) != v
    }
    if changed:
        raise ValueError(
            f"A search must continue with the settings it began with: {changed}. "
            f"Received: { {k: settings[k] for k in changed} }. Choose another folder."
        )
    return {**settings, "data_dir": settings["data_dir"] or begun.get("data_dir")}


def _check_installed() -> None:
    """Refuses to search without KerasTuner and what its oracles need."""
    needed = {"keras_tuner": "KerasTuner", "scipy": "SciPy", "sklearn": "scikit-learn"}
    missing = [
        name for module, name in needed.items() if not importlib.util.find_spec(module)
    ]
    if missing:
        raise ImportError(
            f"A search needs {' and '.join(missing)}. Install it with `pip install "
            "'maml_keras[tune]'`."
        )


def _python_call(settings: dict[str, Any]) -> str:
    """The call of `tune` that repeats the search."""
    names = (
        "algorithm",
        "oracle",
        "trials",
        "iterations",
        "stop_bad",
        "seed",
        "data_dir",
    )
    given = {**{name: settings[name] for name in names}, "num_tasks": settings["tasks"]}
    keywords = "".join(f", {k}={v!r}" for k, v in given.items() if v is not None)
    return f"tune(preset, {settings['search']!r}, folder{keywords})"

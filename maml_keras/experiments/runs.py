"""A run folder: a preset trained into it, resumed, evaluated, exported."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import shlex
import sys
from collections.abc import Mapping
from typing import Any

import keras

from maml_keras import data
from maml_keras.evaluation.evaluate import Evaluation, evaluate_episodes
from maml_keras.experiments import registry, run_folder
from maml_keras.experiments.preset import Families, Preset
from maml_keras.experiments.time_limit import (
    LOOKS,
    Clock,
    Paced,
    steps_within,
    take_schedule,
)
from maml_keras.monitoring.epoch_log import EpochLog, Stopwatch, read
from maml_keras.monitoring.watch import Watch
from maml_keras.outer.backup import WholeBackup
from maml_keras.outer.maml import MAML

MODEL, RESULT = "maml.keras", "evaluation.json"
HISTORY, BACKUP = "history.jsonl", "backup"

# Streams of their own. Test tasks are the same whatever seed a run trains with.
VALIDATION_SEED, TEST_SEED = 1, 2
SEEDS = {"validation": VALIDATION_SEED, "test": TEST_SEED}
# Training tasks that are looked at, drawn anew, not those that are trained on.
TRAIN_SEED = 3


def train(
    preset: Preset,
    folder: str | pathlib.Path,
    *,
    algorithm: str = "maml",
    iterations: int | None = None,
    seconds: float | None = None,
    seed: int = 0,
    data_dir: str | None = None,
    download: bool = False,
    resume: bool = False,
    verbose: str | int = "auto",
    command: str = "",
    settings: Mapping[str, Any] | None = None,
) -> MAML:
    """Trains a preset into a folder of its own.

    The folder gets `config.toml`, TensorBoard's `logs`, `history.jsonl` with a line and
    the training time of each epoch, a `backup` after each epoch until the model is
    saved, and `maml.keras` at the end.

    Args:
        preset: what to train.
        folder: a new folder, or an interrupted run's with `resume`.
        algorithm: str, the name of a recipe.
        iterations: int, meta-steps; None for the preset's.
        seconds: float, how long to train in place of a number of meta-steps, by the
            clock. The call that compiles, looks at validation tasks and backups do
            not count, and a run that goes on has what it had left. The outer rate
            follows its schedule by the share of the time used. What else is
            scheduled by meta-steps, such as MAML++'s loss of all steps, counts on
            `iterations` meta-steps; None for as many as a short probe says that fit.
        seed: int, draws weights and training episodes.
        data_dir: str, where TFDS data sets lie; None for TFDS's own choice.
        download: bool, whether TFDS may download.
        resume: bool, go on with an interrupted run, optimizer and episodes included.
        verbose: as in `keras.Model.fit`.
        command: str, noted in the folder.
        settings: what else `config.toml` should say, by the command line's names.

    Returns:
        The trained model; of a run that ended already, as it is.

    Raises:
        FileExistsError: if the folder holds a run and `resume` is False.
        ValueError: if a run to be resumed was started with other settings.
    """
    folder = pathlib.Path(folder)
    where = {"data_dir": data_dir, "download": download}
    if iterations is not None and iterations < 1:
        raise ValueError(f"`iterations` must be positive. Received: {iterations}.")
    if seconds is not None:
        iterations = _planned(
            preset, folder, algorithm, iterations, seconds, where, verbose
        )
        preset = dataclasses.replace(preset, epoch=max(1, iterations // LOOKS))
    if iterations is None:
        iterations = preset.of(algorithm).iterations
    epoch = min(preset.epoch, iterations)
    if seconds is None and iterations % epoch:
        raise ValueError(
            f"`iterations` must be a multiple of the {epoch} meta-steps of an epoch. "
            f"Received: {iterations}. Take {iterations // epoch * epoch}."
        )
    config = {
        "preset": preset.name,
        "algorithm": algorithm,
        "iterations": iterations,
        "epoch": epoch,
        "seed": seed,
        **({} if seconds is None else {"seconds": float(seconds)}),
    }
    run_folder.check_folder(folder, config, resume=resume)
    # It stays until the model is saved.
    backup = WholeBackup(folder / BACKUP, delete_checkpoint=False)
    if (folder / MODEL).exists():
        backup.remove()
        # Not `load`, which looks the preset up: this one may be a user's own.
        model: MAML = keras.saving.load_model(folder / MODEL)
        return model
    families = preset.families(**where, verbose=verbose)
    keras.utils.set_random_seed(seed)
    maml = preset.build(algorithm, iterations)
    folder.mkdir(parents=True, exist_ok=True)
    noted = {**config, "data_dir": data_dir, **(settings or {})}
    run_folder.write_config(folder, noted, program="train", command=command)
    kept = history(folder) if backup.exists() else []
    stopwatch = Stopwatch(kept)
    timed: list[Any] = [stopwatch]
    watch: keras.callbacks.Callback = Watch(
        folder / "logs",
        {
            "train": _fixed(
                _alike(families.train, families.validation), TRAIN_SEED, 60
            ),
            "validation": _fixed(families.validation, VALIDATION_SEED, 100),
        },
        steps=preset.evaluation_steps,
        every=None if seconds is None else 1,
        verbose=verbose,
    )
    if seconds is not None:
        clock = Clock(
            seconds,
            stopwatch,
            schedule=take_schedule(maml),
            iterations=iterations,
            verbose=verbose,
        )
        timed.append(clock)
        watch = Paced(watch, clock)
    maml.fit(
        preset.episodes(algorithm, families, seed),
        steps_per_epoch=epoch,
        epochs=iterations // epoch if seconds is None else _epochs(kept, seconds),
        verbose=verbose if seconds is None else 0,
        callbacks=[
            *timed,
            keras.callbacks.TensorBoard(folder / "logs", write_graph=False),
            watch,
            EpochLog(folder / HISTORY),
            # Last, so that the log has the time of every epoch that is not run again.
            backup,
        ],
    )
    # Beside, so that a model that is there is whole.
    beside = folder / f"new-{MODEL}"
    maml.save(beside)
    beside.replace(folder / MODEL)
    backup.remove()
    return maml


def load(folder: str | pathlib.Path) -> tuple[MAML, Preset, dict[str, Any]]:
    """A finished run's model, preset and configuration.

    Raises:
        FileNotFoundError: if the folder holds no finished run.
    """
    folder = pathlib.Path(folder)
    config = run_folder.read_config(folder)
    if not (folder / MODEL).exists():
        settings, out = (
            shlex.quote(str(p)) for p in (folder / run_folder.CONFIG, folder)
        )
        raise FileNotFoundError(
            f"The run in {folder} has not ended. Go on with it by `maml-keras train "
            f"--config {settings} --out {out} --resume`."
        )
    return (
        keras.saving.load_model(folder / MODEL),
        registry.get(config["preset"]).of(config["algorithm"]),
        config,
    )


def evaluate(
    maml: MAML,
    preset: Preset,
    *,
    on: str = "test",
    steps: int | None = None,
    num_tasks: int = 600,
    data_dir: str | None = None,
    download: bool = False,
    verbose: str | int = "auto",
) -> Evaluation:
    """The preset's protocol on new tasks, the same ones every time.

    Args:
        maml: the model.
        preset: whose tasks.
        on: `"test"` or `"validation"`.
        steps: int, adaptation steps; None for the preset's.
        num_tasks: int.
        data_dir: str, where TFDS data sets lie.
        download: bool, whether TFDS may download.
        verbose: 0 for silence.
    """
    families = preset.families(data_dir=data_dir, download=download, verbose=verbose)
    return evaluate_on(
        maml,
        families,
        on=on,
        steps=preset.evaluation_steps if steps is None else steps,
        num_tasks=num_tasks,
        verbose=verbose,
    )


def evaluate_on(
    maml: MAML,
    families: Families,
    *,
    on: str = "test",
    steps: int,
    num_tasks: int = 600,
    verbose: str | int = "auto",
) -> Evaluation:
    """As `evaluate`, on task families that a preset made."""
    if on not in SEEDS:
        raise ValueError(f"`on` must be 'test' or 'validation'. Received: {on!r}.")
    return evaluate_episodes(
        maml,
        _fixed(getattr(families, on), SEEDS[on], num_tasks),
        steps=steps,
        num_tasks=num_tasks,
        verbose=verbose,
    )


def export(
    maml: MAML,
    preset: Preset,
    config: dict[str, Any],
    result: Evaluation,
    path: str | pathlib.Path,
    *,
    verbose: str | int = "auto",
) -> pathlib.Path:
    """Exports a run with a card that says how it was made and what it reaches."""
    card = {
        "title": preset.title,
        "protocol": preset.protocol,
        "published": preset.published,
        "command": config["record"]["command"],
        "seed": config["seed"],
        "iterations": int(maml.optimizer.iterations),
        "tasks_per_iteration": preset.tasks,
        "evaluation": {**result.summary(), "text": str(result), "seed": TEST_SEED},
    }
    return pathlib.Path(maml.export(path, card=card, verbose=verbose))


def history(folder: str | pathlib.Path) -> list[dict[str, float]]:
    """What each epoch of a run logged, its training time `seconds` included."""
    return read(pathlib.Path(folder) / HISTORY)


def write_result(
    folder: str | pathlib.Path, result: Evaluation, *, on: str = "test"
) -> pathlib.Path:
    """Notes an evaluation in the run folder, beside those that are there.

    Args:
        folder: the run's.
        result: what `evaluate` gave.
        on: which tasks it is of, `"test"` or `"validation"`.

    Returns:
        The new file: `evaluation.json`, `evaluation-2.json`, ..
    """
    path = run_folder.first_free(pathlib.Path(folder) / RESULT)
    of = {"on": on, "seed": SEEDS[on]}
    summary = {**of, **result.summary(), "text": str(result)}
    text = json.dumps(summary, indent=2, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")
    return path


def _alike(family: Any, other: Any) -> Any:
    # Like is compared with like, and compiled once for both.
    if isinstance(family, data.NWayKShot) and isinstance(other, data.NWayKShot):
        return family.resized(shots=other.shots, queries=other.queries)
    return family


def _fixed(family: Any, seed: int, num_tasks: int) -> Any:
    # 20 tasks at a time: enough to fill the cores, small in memory.
    return data.episodes(family, batch_size=20, seed=seed, num_episodes=num_tasks)


def _epochs(kept: list[dict[str, float]], seconds: float) -> int:
    """Epochs of a run by the clock, which ends what has no last one."""
    if kept and kept[-1]["seconds"] >= seconds:
        return len(kept)  # It was cut when there was nothing left to train.
    return sys.maxsize


def _planned(
    preset: Preset,
    folder: pathlib.Path,
    algorithm: str,
    iterations: int | None,
    seconds: float,
    where: dict[str, Any],
    verbose: str | int,
) -> int:
    """Meta-steps that a run by the clock counts on; what it began with, if it did."""
    if iterations is None and (folder / run_folder.CONFIG).exists():
        iterations = run_folder.read_config(folder).get("iterations")
    if iterations is None:
        iterations = steps_within(preset, algorithm, seconds, where, verbose)
    return int(iterations)

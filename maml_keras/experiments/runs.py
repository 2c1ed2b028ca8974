"""Trains a preset into a run folder; resumes, loads and exports the run."""

from __future__ import annotations

import dataclasses
import logging
import pathlib
import shlex
import sys
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import keras

from maml_keras import data
from maml_keras.backend.documents import reason
from maml_keras.evaluation.result import Evaluation
from maml_keras.execution.replicas import Replicas
from maml_keras.experiments import (
    changes,
    fixed_tasks,
    registry,
    run_folder,
    run_lock,
)
from maml_keras.experiments.preset import Preset
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
from maml_keras.outer.proven_file import save_proven

logger = logging.getLogger(__name__)

ON_SHARED_DISK = "Keep the folder on a file system that all workers share."
MODEL = "maml.keras"
HISTORY, BACKUP = "history.jsonl", "backup"


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
    strategy: Any = None,
) -> MAML:
    """Trains a preset into a run folder.

    The folder gets `config.toml`, TensorBoard's `logs`, `history.jsonl` with a line
    for each epoch, a `backup` after each epoch until the model is saved, and
    `maml.keras` at the end.

    Args:
        preset: the experiment to train.
        folder: a new folder, or with `resume` the folder of an interrupted run.
        algorithm: str, the name of a recipe.
        iterations: int, meta-steps; None for the preset's.
        seconds: float, training time in place of a number of meta-steps. Compilation,
            looks at validation tasks and backups do not count. A resumed run trains
            for the time that it had left. The outer rate follows its schedule by the
            share of the time used. Other schedules by meta-steps, such as MAML++'s
            loss of all steps, assume a run of `iterations` meta-steps; with None a
            short probe estimates how many fit in the time.
        seed: int, draws weights and training episodes.
        data_dir: str, folder of the TFDS data sets; None for TFDS's default.
        download: bool, whether TFDS may download.
        resume: bool, continue an interrupted run with its weights, optimizer state and
            episodes.
        verbose: as in `keras.Model.fit`.
        command: str, recorded in the folder.
        settings: further options of the command line to record in `config.toml`.
        strategy: None for one device, or a strategy whose replicas share each batch.
            Of several workers the first writes; the folder is on a file system that
            they share.

    Returns:
        The trained model. A run that had ended already returns its saved model.

    Raises:
        BlockingIOError: if another process trains into the folder.
        FileExistsError: if the folder is not empty and `resume` is False.
        FileNotFoundError: if `resume` is True and the folder, not empty, has no run.
        LostWorkerError: if another worker ended or no longer answers.
        ValueError: if `iterations` does not fill whole epochs, or if the run to be
            resumed began with other settings.
    """
    team = None if strategy is None else Replicas(strategy)
    if seconds is not None and team is not None and team.workers > 1:
        raise ValueError(
            "Several workers must take the same number of meta-steps. Received: "
            f"seconds={seconds}, by the clock of each worker. Give `iterations`."
        )
    if iterations is not None and iterations < 1:
        raise ValueError(f"`iterations` must be positive. Received: {iterations}.")
    writes = team is None or team.writes
    with run_lock.held(folder) if writes else nullcontext(pathlib.Path(folder)) as held:
        return _train(
            preset,
            held,
            team,
            algorithm,
            iterations,
            seconds,
            seed,
            {"data_dir": data_dir, "download": download},
            resume=resume,
            verbose=verbose,
            command=command,
            settings=settings or {},
        )


def _train(
    preset: Preset,
    folder: pathlib.Path,
    team: Replicas | None,
    algorithm: str,
    iterations: int | None,
    seconds: float | None,
    seed: int,
    where: dict[str, Any],
    *,
    resume: bool,
    verbose: str | int,
    command: str,
    settings: Mapping[str, Any],
) -> MAML:
    """Trains as `train` does, in a folder that this process holds."""
    if seconds is not None:
        iterations = _planned_iterations(
            preset, folder, algorithm, iterations, seconds, where, verbose
        )
        preset = dataclasses.replace(preset, epoch=max(1, iterations // LOOKS))
    if iterations is None:
        iterations = preset.of(algorithm).iterations
    epoch = min(preset.epoch, iterations)
    own = preset.variation(algorithm).changes
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
        **({} if (changed := changes.write(own)) is None else {"changes": changed}),
    }
    writes = team is None or team.writes
    if writes:
        run_folder.check_folder(folder, config, resume=resume)
    # The backup stays until the model is saved.
    backup = WholeBackup(folder / BACKUP, delete_checkpoint=False)
    model = finished(folder)
    if team is not None:
        team.check_same(int(model is None), "folder", ON_SHARED_DISK)
    if model is not None:
        if writes:
            backup.remove()
        return model
    families = preset.families(**where, verbose=verbose)
    keras.utils.set_random_seed(seed)
    with nullcontext() if team is None else team.strategy.scope():
        maml = preset.build(algorithm, iterations)
    recorded = {**config, "data_dir": where["data_dir"], **settings}
    if writes:
        run_folder.write_config(folder, recorded, program="train", command=command)
    kept = history(folder) if backup.exists() else []
    stopwatch = Stopwatch(kept)
    timed: list[Any] = [stopwatch]
    watch: keras.callbacks.Callback = Watch(
        folder / "logs",
        {
            "train": fixed_tasks.episodes(
                _resized_like(families.train, families.validation),
                fixed_tasks.TRAIN_SEED,
                60,
            ),
            "validation": fixed_tasks.episodes(
                families.validation, fixed_tasks.VALIDATION_SEED, 100
            ),
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
    writing = [
        *timed,
        keras.callbacks.TensorBoard(folder / "logs", write_graph=False),
        watch,
        EpochLog(folder / HISTORY),
    ]
    maml.fit(
        preset.episodes(algorithm, families, seed),
        steps_per_epoch=epoch,
        epochs=iterations // epoch if seconds is None else _epochs(kept, seconds),
        verbose=verbose if seconds is None and writes else 0,
        # The backup is the last callback: an epoch in the backup is in the log.
        callbacks=[*(writing if writes else []), backup],
    )
    if writes and save_proven(maml, folder / MODEL):
        backup.remove()
    return maml


def finished(folder: str | pathlib.Path) -> MAML | None:
    """The saved model of a run, or None if the run must be resumed.

    A damaged `maml.keras` beside a backup counts as not saved, with a warning in the
    log: the run resumes from the backup.

    Raises:
        ValueError: if `maml.keras` cannot be loaded and there is no backup.
    """
    folder = pathlib.Path(folder)
    path = folder / MODEL
    if not path.exists():
        return None
    try:
        # `load` finds registered presets only; this one may be a user's own.
        model: MAML = keras.saving.load_model(path)
    except Exception as error:
        if WholeBackup(folder / BACKUP).exists():
            logger.warning(
                "%s cannot be loaded: %s. The run resumes from its backup.",
                path,
                reason(error),
            )
            return None
        raise ValueError(
            f"{path} cannot be loaded: {reason(error)}. The run has no backup left. "
            "Train it again in a new folder: `maml-keras train --config "
            f"{shlex.quote(str(folder / run_folder.CONFIG))}`."
        ) from error
    return model


def load(folder: str | pathlib.Path) -> tuple[MAML, Preset, dict[str, Any]]:
    """A finished run's model, preset and configuration.

    Raises:
        FileNotFoundError: if the folder holds no finished run.
        ValueError: if the model's file is damaged.

    >>> load("nowhere")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    FileNotFoundError: A run must have a config.toml. Received: nowhere, which has ...
    """
    folder = pathlib.Path(folder)
    config = run_folder.read_config(folder, "preset", "algorithm", "seed")
    maml = finished(folder)
    if maml is None:
        settings, out = (
            shlex.quote(str(p)) for p in (folder / run_folder.CONFIG, folder)
        )
        raise FileNotFoundError(
            f"The run in {folder} has not ended. Continue it with `maml-keras train "
            f"--config {settings} --out {out} --resume`."
        )
    algorithm = config["algorithm"]
    preset = registry.get(config["preset"]).with_changes(
        algorithm, **changes.read(config.get("changes"), algorithm)
    )
    return maml, preset.of(algorithm), config


def export(
    maml: MAML,
    preset: Preset,
    config: dict[str, Any],
    result: Evaluation,
    path: str | pathlib.Path,
    *,
    verbose: str | int = "auto",
) -> pathlib.Path:
    """Exports a run with a card that states its command, settings and results."""
    card = {
        "title": preset.title,
        "protocol": preset.protocol,
        "published": preset.published,
        "command": config.get("record", {}).get("command"),
        "seed": config["seed"],
        "iterations": int(maml.meta_steps.numpy()),
        "tasks_per_iteration": preset.tasks,
        "evaluation": {
            **result.summary(),
            "text": str(result),
            "seed": fixed_tasks.TEST_SEED,
        },
    }
    return pathlib.Path(maml.export(path, card=card, verbose=verbose))


def history(folder: str | pathlib.Path) -> list[dict[str, float]]:
    """The logs of each epoch of a run, with the training time as `seconds`."""
    return read(pathlib.Path(folder) / HISTORY)


def _resized_like(family: Any, other: Any) -> Any:
    # Equal sizes make the two curves comparable and share one compiled function.
    if isinstance(family, data.NWayKShot) and isinstance(other, data.NWayKShot):
        return family.resized(shots=other.shots, queries=other.queries)
    return family


def _epochs(kept: list[dict[str, float]], seconds: float) -> int:
    """The limit of epochs for a run by time, which `Clock` ends."""
    if kept and kept[-1].get("seconds", 0.0) >= seconds:
        return len(kept)  # The run was interrupted after its last epoch.
    return sys.maxsize


def _planned_iterations(
    preset: Preset,
    folder: pathlib.Path,
    algorithm: str,
    iterations: int | None,
    seconds: float,
    where: dict[str, Any],
    verbose: str | int,
) -> int:
    """Meta-steps that the schedules of a run by time assume.

    A resumed run keeps the number that it began with.
    """
    if iterations is None and (folder / run_folder.CONFIG).exists():
        iterations = run_folder.read_config(folder).get("iterations")
    if iterations is None:
        iterations = steps_within(preset, algorithm, seconds, where, verbose)
    return int(iterations)

"""Trains a preset into a run folder; resumes, evaluates and exports the run."""

from __future__ import annotations

import dataclasses
import json
import logging
import pathlib
import shlex
import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import keras

from maml_keras import data
from maml_keras.backend.documents import reason
from maml_keras.evaluation import ensemble
from maml_keras.evaluation.ensemble import Ensemble
from maml_keras.evaluation.evaluate import evaluate_episodes
from maml_keras.evaluation.result import Evaluation
from maml_keras.execution.replicas import Replicas
from maml_keras.experiments import changes, registry, run_folder, run_lock
from maml_keras.experiments.other_tasks import check_unseen
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
from maml_keras.outer.proven_file import save_proven

logger = logging.getLogger(__name__)

ON_SHARED_DISK = "Keep the folder on a file system that all workers share."
MODEL, RESULT = "maml.keras", "evaluation.json"
HISTORY, BACKUP = "history.jsonl", "backup"

# Seeds of the evaluated tasks. They do not depend on the run's seed, so all runs see
# the same validation tasks and the same test tasks.
VALIDATION_SEED, TEST_SEED = 1, 2
SEEDS = {"validation": VALIDATION_SEED, "test": TEST_SEED}
# Seed of the tasks from training classes that `Watch` looks at. The run does not train
# on these tasks.
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
            "train": _fixed_episodes(
                _resized_like(families.train, families.validation), TRAIN_SEED, 60
            ),
            "validation": _fixed_episodes(families.validation, VALIDATION_SEED, 100),
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


def evaluate(
    maml: MAML,
    preset: Preset,
    *,
    trained_on: Preset | None = None,
    on: str = "test",
    steps: int | None = None,
    num_tasks: int = 600,
    queries: str = "together",
    data_dir: str | None = None,
    download: bool = False,
    verbose: str | int = "auto",
) -> Evaluation:
    """Evaluates a model on the preset's tasks, the same tasks in every call.

    Args:
        maml: the model.
        preset: gives the tasks.
        trained_on: the preset of the training if `preset` is another one.
        on: `"test"` or `"validation"`.
        steps: int, adaptation steps; None for the preset's.
        num_tasks: int, how many tasks to evaluate on.
        queries: `"together"` or `"alone"`, as for `evaluate_episodes`.
        data_dir: str, folder of the TFDS data sets.
        download: bool, whether TFDS may download.
        verbose: 0 for silence.

    Raises:
        ValueError: if classes of the training of `trained_on` are among the tasks.
    """
    families = _families(preset, trained_on, on, data_dir, download, verbose)
    return evaluate_on(
        maml,
        families,
        on=on,
        steps=preset.evaluation_steps if steps is None else steps,
        num_tasks=num_tasks,
        queries=queries,
        verbose=verbose,
    )


def evaluate_on(
    maml: MAML,
    families: Families,
    *,
    on: str = "test",
    steps: int,
    num_tasks: int = 600,
    queries: str = "together",
    verbose: str | int = "auto",
) -> Evaluation:
    """Evaluates as `evaluate` does, on task families that are made already."""
    if on not in SEEDS:
        raise ValueError(f"`on` must be 'test' or 'validation'. Received: {on!r}.")
    return evaluate_episodes(
        maml,
        _fixed_episodes(getattr(families, on), SEEDS[on], num_tasks),
        steps=steps,
        num_tasks=num_tasks,
        queries=queries,
        verbose=verbose,
    )


def evaluate_ensemble(
    mamls: Sequence[MAML],
    preset: Preset,
    *,
    trained_on: Preset | None = None,
    on: str = "test",
    steps: int | None = None,
    num_tasks: int = 600,
    queries: str = "together",
    data_dir: str | None = None,
    download: bool = False,
    verbose: str | int = "auto",
) -> Ensemble:
    """Evaluates models and the mean of them on the tasks of `evaluate`."""
    families = _families(preset, trained_on, on, data_dir, download, verbose)
    return ensemble.evaluate_ensemble(
        mamls,
        _fixed_episodes(getattr(families, on), SEEDS[on], num_tasks),
        steps=preset.evaluation_steps if steps is None else steps,
        num_tasks=num_tasks,
        queries=queries,
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
    """Exports a run with a card that states its command, settings and results."""
    card = {
        "title": preset.title,
        "protocol": preset.protocol,
        "published": preset.published,
        "command": config.get("record", {}).get("command"),
        "seed": config["seed"],
        "iterations": int(maml.meta_steps.numpy()),
        "tasks_per_iteration": preset.tasks,
        "evaluation": {**result.summary(), "text": str(result), "seed": TEST_SEED},
    }
    return pathlib.Path(maml.export(path, card=card, verbose=verbose))


def history(folder: str | pathlib.Path) -> list[dict[str, float]]:
    """The logs of each epoch of a run, with the training time as `seconds`."""
    return read(pathlib.Path(folder) / HISTORY)


def write_result(
    folder: str | pathlib.Path,
    result: Evaluation | Ensemble,
    *,
    on: str = "test",
    preset: Preset | None = None,
    name: str = RESULT,
) -> pathlib.Path:
    """Writes an evaluation into the run folder, without replacing an earlier one.

    Args:
        folder: the run's folder.
        result: the result of `evaluate` or `evaluate_ensemble`.
        on: the evaluated tasks, `"test"` or `"validation"`.
        preset: gave the tasks, if it is not the run's own.
        name: str, the name of the first such file.

    Returns:
        The new file: `evaluation.json`, `evaluation-2.json`, ...
    """
    path = run_folder.first_free(pathlib.Path(folder) / name)
    tasks = {"on": on, "seed": SEEDS[on]}
    if preset is not None:
        tasks = {"preset": preset.name, **tasks}
    summary = {**tasks, **result.summary(), "text": str(result)}
    text = json.dumps(summary, indent=2, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")
    return path


def _families(
    preset: Preset,
    trained_on: Preset | None,
    on: str,
    data_dir: str | None,
    download: bool,
    verbose: str | int,
) -> Families:
    where = {"data_dir": data_dir, "download": download, "verbose": verbose}
    families = preset.families(**where)
    if trained_on is not None and on in SEEDS:
        check_unseen(trained_on.families(**where), families, on=on)
    return families


def _resized_like(family: Any, other: Any) -> Any:
    # Equal sizes make the two curves comparable and share one compiled function.
    if isinstance(family, data.NWayKShot) and isinstance(other, data.NWayKShot):
        return family.resized(shots=other.shots, queries=other.queries)
    return family


def _fixed_episodes(family: Any, seed: int, num_tasks: int) -> Any:
    # 20 tasks in a batch keep the cores busy and need little memory.
    return data.episodes(family, batch_size=20, seed=seed, num_episodes=num_tasks)


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

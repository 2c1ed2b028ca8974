"""A run folder: a preset trained into it, resumed, evaluated, exported."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import keras

from maml_keras import data, experiments
from maml_keras.callbacks import AdaptationCurves
from maml_keras.evaluation import Evaluation, evaluate_episodes
from maml_keras.history import EpochLog, Stopwatch, read
from maml_keras.maml import MAML
from maml_keras.presets import Families, Preset

MODEL, CONFIG, RESULT = "maml.keras", "config.json", "evaluation.json"
HISTORY = "history.jsonl"

# Streams of their own. Test tasks are the same whatever seed a run trains with.
VALIDATION_SEED, TEST_SEED = 1, 2


def train(
    preset: Preset,
    folder: str | pathlib.Path,
    *,
    algorithm: str = "maml",
    iterations: int | None = None,
    seed: int = 0,
    data_dir: str | None = None,
    download: bool = False,
    resume: bool = False,
    verbose: str | int = "auto",
    command: str = "",
) -> MAML:
    """Trains a preset into a folder of its own.

    The folder gets `config.json`, TensorBoard's `logs`, `history.jsonl` with a line and
    the training time of each epoch, a `backup` after each epoch while training lasts,
    and `maml.keras` at the end.

    Args:
        preset: what to train.
        folder: a new folder, or an interrupted run's with `resume`.
        algorithm: str, the name of a recipe.
        iterations: int, meta-steps; None for the preset's.
        seed: int, draws weights and training episodes.
        data_dir: str, where TFDS data sets lie; None for TFDS's own choice.
        download: bool, whether TFDS may download.
        resume: bool, go on with an interrupted run, optimizer and episodes included.
        verbose: as in `keras.Model.fit`.
        command: str, noted in the folder.

    Returns:
        The trained model.

    Raises:
        FileExistsError: if the folder holds a run and `resume` is False.
        ValueError: if a run to be resumed was started with other settings.
    """
    folder = pathlib.Path(folder)
    iterations = preset.iterations if iterations is None else iterations
    epoch = min(preset.epoch, iterations)
    if iterations < 1 or iterations % epoch:
        raise ValueError(
            f"`iterations` must be a multiple of the {epoch} meta-steps of an epoch. "
            f"Received: {iterations}. Take {max(1, iterations // epoch) * epoch}."
        )
    config = {
        "preset": preset.name,
        "algorithm": algorithm,
        "iterations": iterations,
        "seed": seed,
    }
    _check_folder(folder, config, resume)
    families = preset.families(data_dir=data_dir, download=download)
    keras.utils.set_random_seed(seed)
    maml = preset.build(algorithm, iterations)
    folder.mkdir(parents=True, exist_ok=True)
    _write_json(folder / CONFIG, {**config, "command": command})
    maml.fit(
        preset.episodes(algorithm, families, seed),
        steps_per_epoch=epoch,
        epochs=iterations // epoch,
        verbose=verbose,
        callbacks=[
            Stopwatch(already=_seconds_so_far(folder)),
            keras.callbacks.BackupAndRestore(folder / "backup"),
            keras.callbacks.TensorBoard(folder / "logs", write_graph=False),
            AdaptationCurves(
                _fixed(families.validation, VALIDATION_SEED, 100),
                folder / "logs",
                steps=preset.evaluation_steps,
                every=max(1, iterations // epoch // 20),
            ),
            EpochLog(folder / HISTORY),
        ],
    )
    maml.save(folder / MODEL)
    return maml


def load(folder: str | pathlib.Path) -> tuple[MAML, Preset, dict[str, Any]]:
    """A finished run's model, preset and configuration.

    Raises:
        FileNotFoundError: if the folder holds no finished run.
    """
    folder = pathlib.Path(folder)
    config = configuration(folder)
    if not (folder / MODEL).exists():
        raise FileNotFoundError(
            f"The run in {folder} has not ended. Go on with it by `maml-keras train "
            f"PRESET --out {folder} --resume`."
        )
    return (
        keras.saving.load_model(folder / MODEL),
        experiments.get(config["preset"]),
        config,
    )


def configuration(folder: str | pathlib.Path) -> dict[str, Any]:
    """The settings that a run was begun with.

    Raises:
        FileNotFoundError: if the folder holds no run.
    """
    path = pathlib.Path(folder) / CONFIG
    if not path.exists():
        raise FileNotFoundError(
            f"A run must have a {CONFIG}. Received: {folder}, which has none. Make a "
            "run with `maml-keras train PRESET --out FOLDER`."
        )
    config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return config


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
    families = preset.families(data_dir=data_dir, download=download)
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
    seeds = {"validation": VALIDATION_SEED, "test": TEST_SEED}
    if on not in seeds:
        raise ValueError(f"`on` must be 'test' or 'validation'. Received: {on!r}.")
    return evaluate_episodes(
        maml,
        _fixed(getattr(families, on), seeds[on], num_tasks),
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
) -> pathlib.Path:
    """Exports a run with a card that says how it was made and what it reaches."""
    card = {
        "title": preset.title,
        "protocol": preset.protocol,
        "published": preset.published,
        "command": config["command"],
        "seed": config["seed"],
        "iterations": config["iterations"],
        "tasks_per_iteration": preset.tasks,
        "evaluation": {**result.summary(), "text": str(result), "seed": TEST_SEED},
    }
    return pathlib.Path(maml.export(path, card=card))


def history(folder: str | pathlib.Path) -> list[dict[str, float]]:
    """What each epoch of a run logged, its training time `seconds` included."""
    return read(pathlib.Path(folder) / HISTORY)


def _seconds_so_far(folder: pathlib.Path) -> float:
    return max((row["seconds"] for row in history(folder)), default=0.0)


def write_result(folder: str | pathlib.Path, result: Evaluation) -> None:
    """Notes an evaluation in the run folder."""
    summary = {**result.summary(), "text": str(result)}
    _write_json(pathlib.Path(folder) / RESULT, summary)


def _fixed(family: Any, seed: int, num_tasks: int) -> Any:
    # 20 tasks at a time: enough to fill the cores, small in memory.
    return data.episodes(family, batch_size=20, seed=seed, num_episodes=num_tasks)


def _check_folder(folder: pathlib.Path, config: dict[str, Any], resume: bool) -> None:
    if not folder.exists() or not any(folder.iterdir()):
        return
    if not resume:
        raise FileExistsError(
            f"`--out` must be a new folder. Received: {folder}, which is not empty. "
            "Choose another, or go on with an interrupted run by `--resume`."
        )
    if not (folder / CONFIG).exists():
        raise FileNotFoundError(
            f"`--resume` needs an interrupted run. Received: {folder}, without "
            f"{CONFIG}."
        )
    before = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    changed = {k: before.get(k) for k, v in config.items() if before.get(k) != v}
    if changed:
        raise ValueError(
            f"A run resumes with the settings it began with: {changed}. Received: "
            f"{ {k: config[k] for k in changed} }."
        )


def _write_json(path: pathlib.Path, value: dict[str, Any]) -> None:
    path.write_text(
        json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
    )

"""Measures models on fixed tasks of a preset, which are the same for all runs."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Sequence
from typing import Any

from maml_keras import data
from maml_keras.evaluation import ensemble
from maml_keras.evaluation.ensemble import Ensemble
from maml_keras.evaluation.evaluate import evaluate_episodes
from maml_keras.evaluation.result import Evaluation
from maml_keras.experiments import run_folder
from maml_keras.experiments.other_tasks import check_unseen
from maml_keras.experiments.preset import Families, Preset
from maml_keras.outer.maml import MAML

RESULT = "evaluation.json"

# Seeds of the evaluated tasks. They do not depend on the run's seed, so all runs see
# the same validation tasks and the same test tasks.
VALIDATION_SEED, TEST_SEED = 1, 2
SEEDS = {"validation": VALIDATION_SEED, "test": TEST_SEED}
# Seed of the tasks from training classes that `Watch` looks at. The run does not train
# on these tasks.
TRAIN_SEED = 3


def episodes(family: Any, seed: int, num_tasks: int) -> Any:
    """The first tasks of a seed, in batches."""
    # 20 tasks in a batch keep the cores busy and need little memory.
    return data.episodes(family, batch_size=20, seed=seed, num_episodes=num_tasks)


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
        episodes(getattr(families, on), SEEDS[on], num_tasks),
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
        episodes(getattr(families, on), SEEDS[on], num_tasks),
        steps=preset.evaluation_steps if steps is None else steps,
        num_tasks=num_tasks,
        queries=queries,
        verbose=verbose,
    )


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

"""The file `card.json` of an export, read and checked."""

from __future__ import annotations

import pathlib
from typing import Any

from maml_keras.backend.documents import NUMBER, TEXT, WHOLE, check, read_json

CARD = "card.json"
TENSOR = {"shape": [WHOLE], "dtype": TEXT}
# What `Evaluation.summary` gives.
EVALUATION = {
    "metric": TEXT,
    "tasks": WHOLE,
    "queries": TEXT,
    "steps": [WHOLE],
    "mean": [NUMBER],
    "half_width_95": [NUMBER],
    "median": [NUMBER],
    "diverged_tasks": [WHOLE],
}
# Types of the entries that are computed with. Other entries are shown as they are.
KINDS = {
    "batch_norm": TEXT,
    "batch_norm_policy": (str, dict),
    "trainable_layers": [(bool,)],
    "frozen_variables": [WHOLE],
    "inner_loop": {"steps": WHOLE},
    "preparation": {},
    "evaluation": EVALUATION,
    # The tasks of other sources, by the source's name.
    "transfer": {"*": EVALUATION},
    "functions": {"*": {"arguments": {"*": TENSOR}}},
    "versions": {},
}
# Columns of the evaluation, with an entry for each step.
COLUMNS = ("steps", "mean", "half_width_95", "median", "diverged_tasks")


def read(path: str | pathlib.Path) -> dict[str, Any]:
    """The content of an export's `card.json`.

    Args:
        path: folder of the export.

    Raises:
        ValueError: if the card is damaged, or an entry has another type than
            `maml.export` writes.
    """
    file = pathlib.Path(path) / CARD
    found: dict[str, Any] = read_json(file)
    check(file, found, KINDS)
    _check_evaluation(file, found.get("evaluation") or {}, "evaluation")
    for source, evaluation in (found.get("transfer") or {}).items():
        _check_evaluation(file, evaluation or {}, f"transfer.{source}")
    for name, function in (found.get("functions") or {}).items():
        returns = (function or {}).get("returns")
        # Otherwise a table of tensors by name, of which only the number is shown.
        if isinstance(returns, dict) and "dtype" in returns:
            check(file, returns, TENSOR, f"functions.{name}.returns")
    return found


def read_complete(path: str | pathlib.Path) -> dict[str, Any]:
    """The card of an export whose network is to be rebuilt.

    Raises:
        ValueError: as `read` does, or if an entry is missing that the network needs.
    """
    found = read(path)
    missing = [
        name
        for name, value in {
            "inner_loop.steps": (found.get("inner_loop") or {}).get("steps"),
            "batch_norm": found.get("batch_norm"),
        }.items()
        if value is None
    ]
    if missing:
        raise ValueError(
            f"{pathlib.Path(path) / CARD} must say how the network was trained. "
            f"Received: a card without {', '.join(missing)}. Export the model again."
        )
    return found


def _check_evaluation(
    file: pathlib.Path, evaluation: dict[str, Any], name: str
) -> None:
    queries = evaluation.get("queries_per_task")
    kind = [WHOLE] if isinstance(queries, list) else WHOLE
    check(file, queries, kind, f"{name}.queries_per_task")
    # A mean may be null, if all tasks diverged; the number of a step may not.
    if None in (evaluation.get("steps") or ()):
        raise ValueError(
            f"{file} must have a whole number for each of `{name}.steps`. "
            f"Received: {evaluation['steps']}."
        )
    sizes = {key: len(evaluation[key]) for key in COLUMNS if evaluation.get(key)}
    if len(set(sizes.values())) > 1:
        raise ValueError(
            f"{file} must have an entry for each step in every column of `{name}`. "
            f"Received: columns of {sizes} entries."
        )

"""Writes the learned initialisation as a SavedModel that needs only TensorFlow."""

from __future__ import annotations

import itertools
import json
import pathlib
import tempfile
import warnings
from typing import Any

import keras
import tensorflow as tf

from maml_keras.backend import custom_gradient
from maml_keras.backend.progress import Bar
from maml_keras.backend.tensorflow_log import without_announcements
from maml_keras.backend.versions import versions
from maml_keras.data.preparation import Preparation
from maml_keras.export import signature
from maml_keras.export.module import ExportedLearner
from maml_keras.inner.loop import InnerLoop
from maml_keras.inner.starts import Initialisation
from maml_keras.learner import batch_norm_policies
from maml_keras.learner.learner import Learner
from maml_keras.learner.model_checks import check_no_tables

# Files of an export: those of every export, and those that TensorFlow may add.
OWN = frozenset({"saved_model.pb", "learner.keras", "card.json"})
TENSORFLOW = frozenset({"assets", "assets.extra", "variables", "fingerprint.pb"})


def write(
    learner: Learner,
    inner: InnerLoop,
    path: str | pathlib.Path,
    *,
    input_signature: Any = None,
    trained_on: str = "",
    preparation: Preparation | None = None,
    card: dict[str, Any] | None = None,
    verbose: str | int = "auto",
) -> pathlib.Path:
    """Writes the SavedModel, `learner.keras` and `card.json` to one folder.

    Args:
        learner: the model whose weights are the initialisation.
        inner: the inner loop that `adapt` and `fine_tune` run.
        path: the folder. An earlier export there is replaced; anything else is
            refused.
        input_signature: `(x, y)`, nests of `tf.TensorSpec` with None for the number of
            examples; needed if the model's own inputs have no known shape, else None.
        trained_on: the targets of training, as `target_specs.described` writes them.
        preparation: None, or what makes inputs and targets from raw data. The functions
            of the export then take raw data and predict in its unit.
        card: dict of further entries for the card.
        verbose: 0 for silence, else a progress bar once two seconds have passed.

    Returns:
        The folder.

    Raises:
        ValueError: if the model does not tell the shape of its inputs or outputs.
        FileExistsError: if the folder holds something other than an export.
    """
    path = pathlib.Path(path)
    _check_replaceable(path)
    _warn_of_coupled_queries(learner)
    check_no_tables(learner.model)
    specs = input_signature or signature.of_model(learner, inner, trained_on=trained_on)
    # The bar counts each function, the SavedModel and the Keras file.
    parts = itertools.count(1)
    bar = Bar(ExportedLearner.PARTS + 2, unit="part", verbose=verbose)

    def done() -> None:
        bar.update(next(parts))

    root = ExportedLearner(learner, inner, *specs, preparation=preparation, done=done)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Written into a temporary folder, then renamed: a reader never finds half an
    # export.
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".export-") as folder:
        new = pathlib.Path(folder) / path.name
        with custom_gradient.saving(), without_announcements():
            tf.saved_model.save(root, str(new), signatures=root.signatures())
        done()
        learner.model.save(new / "learner.keras")
        text = json.dumps(
            {
                **_card(learner, inner),
                **_prepared(preparation),
                "functions": root.table(),
                **(card or {}),
            },
            indent=2,
            ensure_ascii=False,
        )
        (new / "card.json").write_text(text + "\n", encoding="utf-8")
        if path.exists():
            # The old export is deleted with the temporary folder.
            path.rename(pathlib.Path(folder) / "old")
        new.rename(path)
    done()
    return path


def _check_replaceable(path: pathlib.Path) -> None:
    """Refuses a folder that holds anything other than a complete export."""
    if not path.exists():
        return
    found = {entry.name for entry in path.iterdir()} if path.is_dir() else {path.name}
    if found and not (OWN <= found <= OWN | TENSORFLOW):
        raise FileExistsError(
            "`path` must be a new folder or an earlier export. Received: "
            f"{path}, which holds something else: "
            f"{', '.join(sorted(found - OWN - TENSORFLOW)) or 'a part of an export'}. "
            "Choose another path."
        )


def _warn_of_coupled_queries(learner: Learner) -> None:
    """Warns if a query that a client sends alone is predicted by itself alone."""
    if learner.couples_queries:
        warnings.warn(
            f"The export of '{learner.model.name}' normalises all queries of a call "
            f"together (batch_norm='{learner.batch_norm.name}'). A query that comes "
            "alone is normalised by itself, and its accuracy can fall to chance. Send "
            "as many queries in a call as in the evaluation, or export "
            "`maml.with_batch_norm('inductive')`: weights that were trained under "
            "'transductive' need no other training for it. The command is "
            "`maml-keras export RUN --batch-norm inductive`.",
            stacklevel=4,
        )


def _prepared(preparation: Preparation | None) -> dict[str, Any]:
    """The card's entry about the preparation, from which `fine_tune` makes it again."""
    if preparation is None:
        return {}
    config = keras.saving.serialize_keras_object(preparation)
    return {"preparation": {**preparation.described(), "object": config}}


def _card(learner: Learner, inner: InnerLoop) -> dict[str, Any]:
    model, rule, start = learner.model, inner.rule, inner.start_from
    is_plain = isinstance(start, Initialisation)
    policy = batch_norm_policies.described(learner.batch_norm)
    layers = [bool(layer.trainable) for layer in model._flatten_layers()]
    frozen_alone = {
        id(v)
        for layer in model._flatten_layers()
        if layer.trainable
        for v in layer._trainable_variables
        if not v.trainable
    }
    frozen = [i for i, v in enumerate(model.variables) if id(v) in frozen_alone]
    return {
        "model": model.name,
        "parameters": int(sum(v.numpy().size for v in model.trainable_variables)),
        "inner_loop": {
            "loss": inner.loss.described(),
            "rule": rule.title,
            "learning_rate": "learned" if rule.fixed_rate is None else rule.fixed_rate,
            "steps": inner.steps,
            **({"batch_size": inner.batch_size} if inner.batch_size else {}),
            **({} if is_plain else {"start": type(start).__name__}),
            "adapt": repr(inner.adapt_selector),
            "second_order": inner.second_order,
        },
        "batch_norm": learner.batch_norm.name,
        "queries": "together" if learner.couples_queries else "alone or together",
        # A Keras configuration does not tell that a layer inside another is frozen.
        **({} if all(layers) else {"trainable_layers": layers}),
        # Nor does it tell that a single weight is frozen: its index in
        # `model.variables`.
        **({"frozen_variables": frozen} if frozen else {}),
        # For a policy of your own: its class, from which `to_keras` rebuilds it.
        **({} if isinstance(policy, str) else {"batch_norm_policy": policy}),
        "versions": versions(),
    }

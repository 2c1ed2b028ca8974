"""Saves a model into a file that is complete, and proven to hold what was saved."""

from __future__ import annotations

import logging
import pathlib
from typing import Any

import keras

from maml_keras.backend.documents import reason, writing

logger = logging.getLogger(__name__)


def save_proven(model: keras.Model, path: str | pathlib.Path) -> bool:
    """Saves a model, loads the file back, and compares all variables bit by bit.

    The model is saved under another name, which is replaced once the file is proven: a
    file at `path` is always complete.

    Args:
        model: any `keras.Model`.
        path: the `.keras` file.

    Returns:
        True if the file is proven. False, with a warning in the log, if the model has
        classes that are not registered with Keras, or a `Lambda` layer: then nobody can
        load the file without `custom_objects` or `safe_mode=False`, but it is written.

    Raises:
        OSError: if the file cannot be loaded, or holds other numbers than the model.

    >>> import tempfile
    >>> model = keras.Sequential([keras.Input([1]), keras.layers.Dense(1)])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_proven(model, pathlib.Path(folder) / "model.keras")
    True
    """
    path = pathlib.Path(path)
    unfinished = path.with_name(f"new-{path.name}")
    with writing(unfinished):
        model.save(unfinished)
    try:
        loaded = keras.saving.load_model(unfinished)
    except Exception as error:
        if not (is_unregistered(error) or is_lambda(error)):
            raise OSError(
                f"{unfinished} was written, but cannot be loaded back: "
                f"{reason(error)}. Check the disk, and save again."
            ) from error
        logger.warning(
            "%s holds %s, so the file could not be checked. Register a class or a "
            "function with `@keras.saving.register_keras_serializable()`.",
            path,
            "a Python lambda, which Keras does not load by itself"
            if is_lambda(error)
            else "a class that Keras cannot find by its name",
        )
        unfinished.replace(path)
        return False
    other = _first_other(_variables(model), _variables(loaded))
    if other is not None:
        raise OSError(
            f"{unfinished} was written, but '{other}' has other values after loading. "
            "Check the disk and the model's `get_config`, and save again."
        )
    unfinished.replace(path)
    return True


def is_unregistered(error: Exception) -> bool:
    """True if Keras could not find a class by the name in a file."""
    return isinstance(error, TypeError) and "Could not locate" in str(error)


def is_lambda(error: Exception) -> bool:
    """True if Keras refused to load the Python lambda of a `Lambda` layer."""
    return isinstance(error, ValueError) and "Python lambda" in str(error)


def _variables(model: keras.Model) -> list[Any]:
    optimizer = getattr(model, "optimizer", None)
    return [*model.variables, *(getattr(optimizer, "variables", None) or [])]


def _first_other(ours: list[Any], theirs: list[Any]) -> str | None:
    """The path of the first variable whose bits differ, or None."""
    for a, b in zip(ours, theirs):
        x, y = (keras.ops.convert_to_numpy(v) for v in (a, b))
        if x.shape != y.shape or x.dtype != y.dtype or x.tobytes() != y.tobytes():
            return str(a.path)
    if len(ours) != len(theirs):
        return str((ours + theirs)[min(len(ours), len(theirs))].path)
    return None

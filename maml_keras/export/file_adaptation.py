"""Adapts an export to the task in a folder of images, a table or an .npz file."""

from __future__ import annotations

import functools
import json
import logging
import pathlib
import zipfile
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from maml_keras.backend.printable import printable
from maml_keras.data import task_files
from maml_keras.data.image_preparation import ImagePreparation
from maml_keras.data.text_preparation import TextPreparation
from maml_keras.export import (
    array_checks,
    card_file,
    reading,
    table_adaptation,
    text_adaptation,
)
from maml_keras.learner import episode_checks
from maml_keras.learner.input_checks import SCALES_BYTES, looks_like_bytes
from maml_keras.learner.losses import PureLoss

logger = logging.getLogger(__name__)


def adapt_file(
    export: str | pathlib.Path,
    data: str | pathlib.Path,
    *,
    query: str | pathlib.Path | None = None,
    target: list[str] | None = None,
    steps: int = 10,
    learning_rate: float | None = None,
    out: str | pathlib.Path | None = None,
    verbose: str | int = "auto",
) -> str:
    """Adapts an exported initialisation to the examples of a folder or file.

    Args:
        export: folder of the export, which does not change.
        data: a folder with a folder of images for each class, or an `.npz` file with
            arrays `x` and `y` `[examples, ...]`, and optionally `query_x` and
            `query_y`; images of bytes if the export takes raw images. For an export
            with a preparation of tables, a `.csv` or `.parquet` file with the columns
            of training; for an export of texts, with a column `text` and the column
            of classes that `target` names.
        query: None, or query examples in the same form. The rows of a table without
            its target columns are predicted.
        target: None, or the target columns of a table, if their names are not those of
            training; the column of classes beside texts.
        steps: int, gradient steps.
        learning_rate: float; None for the inner loop's rate.
        out: None, or the `.keras` file for the adapted network.
        verbose: 0 for silence, else a progress bar for the images and one for the
            steps, each once two seconds have passed.

    Returns:
        A table with the accuracy (for classes) or the export's own loss, before and
        after adaptation, and the batch-norm policy. With a preparation, losses are in
        the original unit.

    Raises:
        FileNotFoundError: if `export`, `data` or `query` does not exist.
        ValueError: if the examples do not fit the export, or adaptation diverges.

    >>> import tempfile
    >>> x = np.array([[0.0], [1.0], [2.0]])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     data = pathlib.Path(folder, "wave.npz")
    ...     np.savez(data, x=x, y=np.sin(x))
    ...     text = adapt_file("saved_models/sinusoid", data, steps=1, verbose=0)
    >>> print(text.splitlines()[0])
    batch norm: transductive
    """
    if out is not None and pathlib.Path(out).suffix != ".keras":
        raise ValueError(f"`--out` must end in .keras. Received: {out}.")
    saved = reading.load(export)
    if out is not None:
        # Fails before the adaptation if Keras does not know a class of the network.
        reading.network(pathlib.Path(export) / "learner.keras")
    own = reading.preparation(export)
    rows: Any = ()
    shown: Callable[[Any, Any], list[str]]
    shown = functools.partial(table_adaptation.answers, own)
    if isinstance(own, TextPreparation):
        texts = text_adaptation.examples(data, query, target, ways=_width(saved))
        sets, rows = texts.sets, texts.rows
        lines = _counted(texts.classes, texts.counts)
        shown = functools.partial(text_adaptation.answers, texts.classes)
    elif own is None or isinstance(own, ImagePreparation):
        _check_no_target(target, export)
        sets, lines = _examples(export, saved, data, query, verbose)
    else:
        (sets, rows), lines = table_adaptation.examples(own, data, query, target), []
    # Rows without a target are predicted, the others are measured.
    asked = {label: x for label, (x, y) in sets.items() if y is None}
    yours = sets["yours"]
    sets = {
        label: (x, y if own is None else np.asarray(own.restored(own.targets(y))))
        for label, (x, y) in sets.items()
        if y is not None
    }
    loss = reading.loss_of(export, classes=sets["yours"][1].dtype.kind in "iu")
    if loss.is_sparse_categorical:
        for label, (_, y) in sets.items():
            name = "y" if label == "yours" else "query_y"
            counted = y[y != loss.ignored_class]
            episode_checks.check_label_range(name, counted, _width(saved))
    before = _measured(lambda x: _at_first(saved, *yours, x), sets, loss)
    reading.tuned(
        saved,
        *yours,
        steps=steps,
        learning_rate=learning_rate,
        verbose=verbose,
    )
    after = _measured(saved.serve, sets, loss)
    card = card_file.read_complete(export)
    lines += [f"batch norm: {printable(card['batch_norm'])}"]
    lines += [f"{'examples':>10}  {'step 0':>10}  {f'step {steps}':>10}"]
    lines += [
        f"{label:>10}  {before[label, name]:>10.4g}  {value:>10.4g}  {name}"
        for (label, name), value in after.items()
    ]
    for x in asked.values():
        lines += shown(saved.serve(x), rows)
    if out is not None:
        model = reading.ordinary(export, saved, yours[0])
        pathlib.Path(out).parent.mkdir(parents=True, exist_ok=True)
        model.save(out)
        lines.append(f"adapted network: {out}")
    return "\n".join(lines)


def _examples(
    export: str | pathlib.Path,
    saved: Any,
    data: str | pathlib.Path,
    query: str | pathlib.Path | None,
    verbose: str | int,
) -> tuple[dict[str, tuple[Any, Any]], list[str]]:
    """The example sets to measure on, and lines to print; "yours" is adapted to."""
    specs = saved.fine_tune.concrete_functions[0].structured_input_signature[0]
    x_spec, y_spec = specs[:2]
    if tf.nest.is_nested(x_spec) or tf.nest.is_nested(y_spec):
        raise ValueError(
            "`export` must have one input and one output to be adapted to files. "
            f"Received: {x_spec} and {y_spec}. Use `mk.fine_tune(path, x, y)`."
        )
    ways = _width(saved) if y_spec.dtype.is_integer else None
    shape = tuple(x_spec.shape[1:])
    # Such an export scales images itself.
    raw = x_spec.dtype == tf.uint8
    for name, path in (("--data", data), ("--query", query)):
        if path is not None and pathlib.Path(path).is_dir() and not raw:
            _check_scaling(export, name, path)
    how = {"shape": shape, "ways": ways, "raw": raw, "verbose": verbose}
    mine = task_files.read(data, **how)
    arrays = mine.arrays
    loss = reading.loss_of(export, classes=ways is not None)

    def fitting(x: Any, y: Any, **names: Any) -> tuple[Any, Any]:
        return array_checks.fitting(saved, x, y, loss=loss, **names)

    sets = {"yours": fitting(arrays["x"], arrays["y"])}
    _warn_of_bytes(export, sets["yours"][0])
    if query is not None:
        read = task_files.read(query, option="--query", classes=mine.classes, **how)
        sets["query"] = fitting(read.arrays["x"], read.arrays["y"])
    elif {"query_x", "query_y"} <= set(arrays):
        names = "query_x", "query_y"
        sets["query"] = fitting(*(arrays[name] for name in names), names=names)
    return sets, _counted(mine.classes, mine.counts)


def _width(saved: Any) -> int:
    """The outputs of an export that has one array of them."""
    return int(saved.serve.concrete_functions[0].structured_outputs.shape[-1])


def _counted(classes: Sequence[str], counts: Sequence[int]) -> list[str]:
    """A line with the number, the name and the examples of each class."""
    return [
        f"class {number}: {name}, {count} example(s)"
        for number, (name, count) in enumerate(zip(classes, counts))
    ]


def _check_no_target(target: list[str] | None, export: str | pathlib.Path) -> None:
    if target is not None:
        raise ValueError(
            "`--target` names a column of a table. Received: "
            f"{', '.join(target)}, for the export {export}, which was not trained on "
            "a table. Pass an .npz file with arrays x and y."
        )


def _check_scaling(export: str | pathlib.Path, option: str, path: Any) -> None:
    """Refuses a folder for a network that scales bytes itself.

    Images of a folder are read as values in [0, 1], as in a pool. Such a network was
    probably trained on bytes, but the export does not tell.
    """
    if _scales_bytes(export):
        raise ValueError(
            f"`{option}` must be an .npz file for this export, whose network scales "
            f"its inputs itself. Received: the folder {path}, whose images would be "
            "scaled to [0, 1] first. Write the images with the values that training "
            "used: `numpy.savez(path, x=x, y=y)`."
        )


def _warn_of_bytes(export: str | pathlib.Path, x: Any) -> None:
    """Warns that images have values up to 255, where most trainings use [0, 1]."""
    images = x.ndim == 4 and x.dtype.kind == "f"
    if images and looks_like_bytes(x) and not _scales_bytes(export):
        logger.warning(
            "The inputs are images with values up to 255. Divide them by 255 if "
            "the network was trained on values in [0, 1]: episodes of byte images are "
            "scaled to [0, 1]."
        )


def _scales_bytes(export: str | pathlib.Path) -> bool:
    """Whether the network has a `Rescaling` layer that is meant for bytes."""
    # The file is read without Keras, which may not know the classes in it.
    with zipfile.ZipFile(pathlib.Path(export) / "learner.keras") as file:
        config = json.loads(file.read("config.json"))
    return any(abs(scale) < SCALES_BYTES for scale in _scales(config))


def _scales(config: Any) -> Iterator[float]:
    """The factors of all `Rescaling` layers of a configuration."""
    if isinstance(config, dict) and config.get("class_name") == "Rescaling":
        scale = config["config"]["scale"]
        if isinstance(scale, dict):  # Keras writes arrays and tuples as a dict.
            scale = scale["config"]["value"]
        yield from np.ravel(scale)
    parts = config.values() if isinstance(config, dict) else config
    if isinstance(parts, (list, tuple)) or isinstance(config, dict):
        for part in parts:
            yield from _scales(part)


def _measured(
    predict: Callable[[Any], Any], sets: dict[str, tuple[Any, Any]], loss: PureLoss
) -> dict[tuple[str, str], float]:
    """The metric of the predictions, by the set's label and the metric's name."""
    return {
        (label, name): value
        for label, (x, y) in sets.items()
        for name, value in [_metric(y, np.asarray(predict(x)), loss)]
    }


def _at_first(saved: Any, x: Any, y: Any, query_x: Any) -> Any:
    """Predictions before any step; a start such as `PrototypicalHead` still applies."""
    with reading.graph_errors_as_value_errors():
        return saved.adapt_and_predict(x, y, query_x, steps=0)


def _metric(y: Any, predictions: Any, loss: PureLoss) -> tuple[str, float]:
    if loss.is_sparse_categorical:
        counted = y != loss.ignored_class
        right = np.argmax(predictions, axis=-1) == y
        return "accuracy", float(np.mean(right[counted])) if counted.any() else 0.0
    if loss.is_categorical:
        right = np.argmax(predictions, axis=-1) == np.argmax(y, axis=-1)
        return "accuracy", float(np.mean(right))
    return loss.name.replace("_", " "), float(loss(y, predictions))

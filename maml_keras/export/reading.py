"""Reads an export back as an ordinary Keras model, fine-tuned or as it is."""

from __future__ import annotations

import contextlib
import itertools
import pathlib
import re
from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf

from maml_keras.backend.documents import reason
from maml_keras.backend.step_progress import StepReport
from maml_keras.data.preparation import Preparation
from maml_keras.export import array_checks, card_file
from maml_keras.inner.loop import check_steps
from maml_keras.learner import batch_norm_policies
from maml_keras.learner.batch_norm_policy import BatchNormPolicy
from maml_keras.learner.learner import Learner
from maml_keras.learner.losses import PureLoss
from maml_keras.learner.model_copies import settle
from maml_keras.learner.prepared_model import around

# Attributes of a SavedModel that this module reads, beside its lists of variables.
FUNCTIONS = ("serve", "fine_tune", "steps_taken")


def to_keras(
    path: str | pathlib.Path, *, custom_objects: dict[str, Any] | None = None
) -> keras.Model:
    """The initialisation of an export as an ordinary model.

    Args:
        path: folder of the export.
        custom_objects: as in `keras.saving.load_model`, for your own classes that are
            not registered with Keras.

    Returns:
        A `keras.Model` of the class that was meta-trained, not compiled.

    Raises:
        FileNotFoundError: if the folder holds no SavedModel.
        ValueError: if the SavedModel is not an export of this version.

    >>> to_keras("saved_models/sinusoid").count_params()
    1761
    """
    return ordinary(path, load(path), custom_objects=custom_objects)


def fine_tune(
    path: str | pathlib.Path,
    x: Any,
    y: Any = None,
    *,
    steps: int | None = None,
    learning_rate: float | None = None,
    custom_objects: dict[str, Any] | None = None,
    verbose: str | int = "auto",
) -> keras.Model:
    """An export's initialisation adapted to one task, as an ordinary model.

    The weights equal those of the SavedModel's own `fine_tune`, bit for bit. The
    export does not change.

    Args:
        path: folder of the export.
        x: inputs `[examples, ...]`, scaled as in training. Images of bytes are
            refused: divide them by 255, as episodes do. For an export with a
            preparation: raw data, such as a DataFrame, a CSV file or a dict of columns.
        y: targets `[examples, ...]`; for classes, their numbers from 0. For an export
            with a preparation: raw targets, or None for those in `x`.
        steps: int, gradient steps; None for the number in training.
        learning_rate: float; None for the inner loop's rate.
        custom_objects: as in `keras.saving.load_model`.
        verbose: 0 for silence, else a progress bar once two seconds have passed.

    Returns:
        A `keras.Model`, not compiled. The model predicts with moving statistics. If
        the export normalises by each batch, the moving statistics are set to the
        statistics of the examples. With a preparation, the model takes raw inputs, as
        `preparation(path).raw` returns them, and predicts in the original unit.

    Raises:
        FileNotFoundError: if the folder holds no SavedModel.
        ValueError: if the SavedModel is not an export of this version, the examples do
            not fit it, or adaptation diverges.

    >>> x = np.array([[0.0], [1.0], [2.0]])
    >>> network = fine_tune("saved_models/sinusoid", x, np.sin(x), steps=10, verbose=0)
    >>> network(x).shape
    TensorShape([3, 1])
    """
    saved = load(path)
    x, y = examples(path, saved, x, y)
    trained = card_file.read_complete(path)["inner_loop"]["steps"]
    steps = trained if steps is None else steps
    check_steps(steps)
    tuned(saved, x, y, steps=steps, learning_rate=learning_rate, verbose=verbose)
    return ordinary(path, saved, x, custom_objects=custom_objects)


def preparation(path: str | pathlib.Path) -> Preparation | None:
    """The preparation of an export, or None if its functions take prepared data.

    `preparation(path).raw(data)` turns a DataFrame or a file into what the functions
    take.

    Args:
        path: folder of the export.

    Raises:
        ValueError: if the card is damaged, or holds a class that Keras does not know.

    >>> preparation("saved_models/sinusoid") is None
    True
    """
    found = card_file.read_complete(path).get("preparation")
    if not found:
        return None
    try:
        made = keras.saving.deserialize_keras_object(found["object"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} must hold a preparation that Keras can rebuild. Received: "
            f"{reason(error)}. Register its class with "
            "`@keras.saving.register_keras_serializable()` and import its module, or "
            "export the model again."
        ) from error
    checked: Preparation = made
    return checked


def examples(path: str | pathlib.Path, saved: Any, x: Any, y: Any) -> tuple[Any, Any]:
    """A user's examples in the form that the functions of an export take.

    Args:
        path: folder of the export.
        saved: the export that was loaded from the folder.
        x: inputs, or raw data for an export with a preparation.
        y: targets; None for those in the raw data.

    Raises:
        ValueError: if the examples do not fit the export.
    """
    own = preparation(path)
    if own is not None:
        x, y = own.labelled(*own.raw(x, y))
    if y is None:
        raise ValueError(
            "`y` must hold the targets of the examples. Received: none"
            + ("." if own is None else ", neither in `y` nor in the data.")
        )
    if own is not None:
        return x, y
    return array_checks.fitting(saved, x, y, loss=loss_of(path, classes=False))


def loss_of(path: str | pathlib.Path, *, classes: bool) -> PureLoss:
    """The export's own loss, or the usual one if the card's loss cannot be rebuilt.

    Args:
        path: folder of the export.
        classes: bool, whether its targets are class numbers.

    >>> loss_of("saved_models/sinusoid", classes=False).name
    'mean_squared_error'
    """
    usual = "sparse_categorical_crossentropy" if classes else "mse"
    card = card_file.read_complete(path)
    try:
        return PureLoss.deserialize(card["inner_loop"].get("loss"))
    except (TypeError, ValueError):
        # The card is old, or its loss is a function that Keras does not know here.
        return PureLoss(usual)


def warm_start(
    model: keras.Model,
    path: str | pathlib.Path,
    *,
    custom_objects: dict[str, Any] | None = None,
) -> None:
    """Sets a model's weights to the initialisation of an export.

    Weights are matched in their order, by shape; names do not matter. If one weight
    does not fit, no weight is changed.

    Args:
        model: a built model with weights of the same shapes.
        path: folder of the export.
        custom_objects: as in `keras.saving.load_model`.

    Raises:
        FileNotFoundError: if the folder holds no SavedModel.
        ValueError: if a weight does not fit; the message names the first one.

    >>> from maml_keras import models
    >>> network = models.mlp()
    >>> warm_start(network, "saved_models/sinusoid")
    """
    if not model.built:
        raise ValueError(
            f"`model` must be built. Received: model '{model.name}', which is not "
            "built. Call it once on a batch of data, or give it a `keras.Input`."
        )
    source = to_keras(path, custom_objects=custom_objects).weights
    for index, pair in enumerate(itertools.zip_longest(model.weights, source)):
        own, other = (None if w is None else tuple(w.shape) for w in pair)
        if own != other:
            in_model, in_export = map(_described, pair)
            raise ValueError(
                "`model` must have the weights of the export, in their order. Weight "
                f"{index} differs: {in_model} in the model, {in_export} in the export. "
                "No weight was changed."
            )
    for own, other in zip(model.weights, source):
        own.assign(other)
    settle(model)


def load(path: str | pathlib.Path) -> Any:
    """Loads the SavedModel of an export.

    Raises:
        FileNotFoundError: if the folder holds no SavedModel.
        ValueError: if the SavedModel is damaged, or lacks parts of an export, because
            another program or an earlier version wrote it.
    """
    path = pathlib.Path(path)
    how = "`maml.export(path)` or `maml-keras export RUN`"
    if not (path / "saved_model.pb").exists():
        is_keras = path.suffix == ".keras" and path.exists()
        raise FileNotFoundError(
            f"`export` must be a folder with a SavedModel. Received: {path}"
            + (", a Keras file, which cannot be adapted here. " if is_keras else ". ")
            + f"Make one with {how}."
        )
    saved = saved_model(path)
    files = "card.json", "learner.keras"
    missing = [name for name in FUNCTIONS if not hasattr(saved, name)]
    missing += [name for name in files if not (path / name).exists()]
    if missing:
        raise ValueError(
            f"`export` must be written by this version's {how}. Received: {path}, "
            f"without {', '.join(missing)}. Export the model again, into a new folder, "
            "and give that folder."
        )
    return saved


def saved_model(path: str | pathlib.Path) -> Any:
    """Loads a SavedModel.

    Raises:
        ValueError: if a file of the SavedModel is damaged, with the folder's name.
    """
    try:
        return tf.saved_model.load(str(path))
    # TensorFlow raises errors of many kinds for damaged files.
    except Exception as error:
        raise ValueError(
            f"{path} cannot be loaded as a SavedModel: {reason(error)}. A file is "
            "damaged or missing: copy the export again, or export the model again."
        ) from error


def tuned(
    saved: Any,
    x: Any,
    y: Any,
    *,
    steps: int,
    learning_rate: float | None,
    verbose: str | int = "auto",
) -> None:
    """Fine-tunes a loaded export in memory.

    Raises:
        ValueError: with the message of the export's own check that failed.
    """
    rate = {} if learning_rate is None else {"learning_rate": learning_rate}
    # An export of an earlier version may not report its progress.
    place = getattr(saved, "progress", None)
    bar = StepReport(place).shown(steps, verbose=verbose if place is not None else 0)
    with graph_errors_as_value_errors(), bar:
        saved.fine_tune(x, y, steps=steps, **rate)


@contextlib.contextmanager
def graph_errors_as_value_errors() -> Iterator[None]:
    """Raises a failed check of an export's graph as a `ValueError`."""
    try:
        yield
    except tf.errors.InvalidArgumentError as error:
        raise ValueError(_message_of(error)) from error


def ordinary(
    path: str | pathlib.Path,
    saved: Any,
    x: Any = None,
    *,
    custom_objects: dict[str, Any] | None = None,
) -> keras.Model:
    """The present weights of a loaded export, as an ordinary model.

    Args:
        path: folder of the export.
        saved: the export that was loaded from the folder.
        x: None, or examples as the export's functions take them. If the export
            normalises by each batch, the statistics of these examples become the
            model's moving statistics.
        custom_objects: as in `keras.saving.load_model`.
    """
    model = network(pathlib.Path(path) / "learner.keras", custom_objects=custom_objects)
    facts = card_file.read_complete(path)
    freeze(model, facts)
    learner = Learner(
        model,
        batch_norm=batch_norm(facts, custom_objects),
        steps=facts["inner_loop"]["steps"],
    )
    weights = [tf.convert_to_tensor(v) for v in saved.trainable_variables]
    state = [tf.convert_to_tensor(v) for v in saved.non_trainable_variables]
    taken = tf.convert_to_tensor(saved.steps_taken)
    own = preparation(path)
    if x is not None and learner.batch_norm.uses_batch_statistics(training=False):
        x = tf.nest.map_structure(
            tf.convert_to_tensor, x if own is None else own.inputs(x)
        )
        state = learner.batch_statistics(weights, state, x, step=taken)
    for variable, value in zip(model.variables, learner.folded(weights, state, taken)):
        variable.assign(value)
    settle(model)
    return around(model, own)


def freeze(model: keras.Model, facts: dict[str, Any]) -> None:
    """Freezes the layers and weights that were frozen at export, by the card.

    Frozen weights change the order of the weights in an export, so a model must be
    frozen before its weights are read.
    """
    layers, trainable = model._flatten_layers(), facts.get("trainable_layers", [])
    if len(layers) == len(trainable):
        for layer, flag in zip(layers, trainable):
            layer.trainable = flag
    for index in facts.get("frozen_variables", []):
        model.variables[index].trainable = False


def batch_norm(
    facts: dict[str, Any], custom_objects: dict[str, Any] | None = None
) -> BatchNormPolicy:
    """The batch-norm policy of a card; a user's own is rebuilt from its class."""
    with keras.saving.custom_object_scope(custom_objects or {}):
        return batch_norm_policies.get(
            facts.get("batch_norm_policy") or facts["batch_norm"]
        )


def network(
    path: str | pathlib.Path, *, custom_objects: dict[str, Any] | None = None
) -> keras.Model:
    """Loads a `.keras` file without compiling.

    Raises:
        ValueError: if the file is damaged, or needs a class that Keras does not know in
            this process.
    """
    try:
        return keras.saving.load_model(
            path, custom_objects=custom_objects, compile=False
        )
    # Keras raises errors of many kinds for damaged files.
    except Exception as error:
        found = re.search(r"Could not locate [^.]*", str(error))
        if found is None:
            raise ValueError(f"{path} cannot be loaded: {reason(error)}.") from error
        raise ValueError(
            f"{path} holds a class that Keras does not know here. Register the class "
            "with `@keras.saving.register_keras_serializable()` and import its module, "
            "or pass `custom_objects={name: class}`, which only Python can. "
            f"({found[0]})"
        ) from error


def _described(weight: Any) -> str:
    return "none" if weight is None else f"{weight.path} {tuple(weight.shape)}"


def _message_of(error: tf.errors.InvalidArgumentError) -> str:
    """The message of a failed check, without the names of graph operations."""
    found = re.search(r"assertion failed: (.*)|^(.*) : Tensor had", error.message, re.M)
    if found is None:
        return str(error.message)
    return (found[1] or f"[{found[2]}.]").strip("[]").replace("] [", " ")

"""Checks of a batch of episodes: form, sizes, finite values and class numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from maml_keras.learner.weights import WEIGHTS, check_shapes

KEYS = ("support_x", "support_y", "query_x")
PLAIN = (
    " To make tasks from labelled arrays, use `data.from_arrays` and "
    "`data.NWayKShot`. To predict plain inputs, use "
    "`maml.adapt(support_x, support_y).predict(x)`."
)
NUMBER = (
    "Number the classes of each task from 0, with the same numbers in support and "
    "query set: `np.searchsorted(np.unique(support_y), y)`."
)


def check_batch(task: Any, query_y: Any = None) -> None:
    """Refuses a batch of episodes with wrong keys or wrong static shapes.

    Args:
        task: dict of `support_x`, `support_y` and `query_x`, each `[tasks, examples,
            ...]` or a nest of such. Optional: `support_weight` and `query_weight`,
            `[tasks, examples]`.
        query_y: None, or targets `[tasks, examples, ...]`.

    Raises:
        ValueError: with the entry, what was expected and what was received.

    >>> check_batch({"support_x": tf.zeros([2, 5, 3])})
    Traceback (most recent call last):
    ...
    ValueError: A task must be a dict with exactly the keys support_x, support_y, \
query_x. Received: ['support_x'].
    """
    if not isinstance(task, dict) or set(task) - set(WEIGHTS) != set(KEYS):
        received, hint = type(task).__name__, PLAIN
        if isinstance(task, dict):
            received, hint = str(sorted(task)), ""
            if "query_y" in task:
                hint = " Put the query targets beside the dict: `(task, query_y)`."
        raise ValueError(
            f"A task must be a dict with exactly the keys {', '.join(KEYS)}. "
            f"Received: {received}.{hint}"
        )
    check_shapes(task)
    entries = {name: task[name] for name in KEYS}
    if query_y is not None:
        entries["query_y"] = query_y
    for name, value in entries.items():
        for leaf in tf.nest.flatten(value):
            if leaf.shape.rank is not None and leaf.shape.rank < 2:
                raise ValueError(
                    f"`{name}` must have shape [tasks, examples, ...]. Received: "
                    f"shape={tuple(leaf.shape)}. Give a single task a first axis of "
                    "length 1, or adapt to it with `maml.adapt(support_x, support_y)`, "
                    "which takes arrays without this axis."
                )
            if leaf.shape.rank is not None and leaf.shape[0] == 0:
                raise ValueError(
                    "A batch must hold at least one task. Received: "
                    f"`{name}` of shape={tuple(leaf.shape)}."
                )
            if leaf.shape.rank is not None and leaf.shape[1] == 0:
                raise ValueError(
                    f"`{name}` must hold at least one example for each task. "
                    f"Received: shape={tuple(leaf.shape)}."
                )
    _check_equal(entries, 0, list(entries), "the same number of tasks")
    _check_equal(entries, 1, ["support_x", "support_y"], "as many examples")
    if query_y is not None:
        _check_equal(entries, 1, ["query_x", "query_y"], "as many examples")
    _check_same_inputs(task["support_x"], task["query_x"])


def elements(task: Any, query_y: Any, sample_weight: Any = None) -> dict[str, Any]:
    """A batch as the dict of tensors that a task map takes.

    Args:
        task: dict of `support_x`, `support_y` and `query_x`.
        query_y: targets `[tasks, examples, ...]`, or a nest of such.
        sample_weight: None, or as in `check_weights`.

    Returns:
        A dict of `task`, `query_y` and, if there are weights, `sample_weight`.

    Raises:
        ValueError: if there are no targets, or the weights do not fit them.
    """
    check_targets(query_y)
    found: dict[str, Any] = {"task": task, "query_y": query_y}
    if sample_weight is not None:
        found["sample_weight"] = sample_weight
    check_dense(task, query_y)
    # Users, and `train_on_batch` in eager mode, pass NumPy arrays.
    found = tf.nest.map_structure(tf.convert_to_tensor, found)
    if sample_weight is not None:
        check_weights(found["sample_weight"], found["query_y"])
    return found


def check_weights(sample_weight: Any, query_y: Any) -> None:
    """Refuses sample weights unless there is one for each query example.

    Args:
        sample_weight: tensor `[tasks, examples]`. For several outputs: one tensor for
            all outputs, or a nest of tensors like the nest of targets.
        query_y: targets `[tasks, examples, ...]`, or a nest of such.

    Raises:
        ValueError: if the nest or a shape does not fit the targets.
    """
    if tf.nest.is_nested(sample_weight) and not _alike(sample_weight, query_y):
        raise ValueError(
            "`sample_weight` must be one array, or one for each output, in a nest like "
            f"query_y. Received: {_form(sample_weight)} for {_form(query_y)}."
        )
    targets, weights = tf.nest.flatten(query_y), tf.nest.flatten(sample_weight)
    for weight, target in zip(weights, targets):
        shape = weight.shape
        known = shape.rank is not None
        if known and not shape[:2].is_compatible_with(target.shape[:2]):
            raise ValueError(
                "`sample_weight` must have shape [tasks, examples], like query_y: "
                f"{tuple(target.shape[:2])}. Received: shape={tuple(shape)}."
            )


def check_targets(query_y: Any) -> None:
    """Refuses a batch without query targets, such as a task alone.

    Raises:
        ValueError: if `query_y` is None.
    """
    if query_y is None:
        raise ValueError(
            "A batch must be a pair (task, query_y), with task a dict of "
            f"{', '.join(KEYS)}. Received: no query_y. Put query_y beside the dict and "
            "not inside it. (Keras takes a pair of tuples as inputs without targets.)"
        )


def check_dense(task: Any, query_y: Any) -> None:
    """Refuses ragged and sparse tensors.

    Args:
        task: dict of `support_x`, `support_y` and `query_x`.
        query_y: query targets.

    Raises:
        ValueError: with the entry and the way out.
    """
    entries = task if isinstance(task, dict) else {}
    for name, value in {**entries, "query_y": query_y}.items():
        for leaf in tf.nest.flatten(value):
            if isinstance(leaf, (tf.RaggedTensor, tf.SparseTensor)):
                raise ValueError(
                    f"`{name}` must be a dense tensor [tasks, examples, ...]. "
                    f"Received: a {type(leaf).__name__}. Draw as many examples for "
                    "each task of a batch, or make batches of one task. Pad series "
                    "with `.to_tensor()`, and let the model mask the padding."
                )


def check_targets_known(name: str, value: Any) -> None:
    """Refuses NaN and infinity in targets; `name` is for the message."""
    check_values(
        name,
        value,
        "Clean the data before training. A loss leaves out targets of NaN if it is "
        "wrapped: `mk.KnownTargets('mse')`.",
    )


def check_values(
    name: str, value: Any, remedy: str = "Clean the data before training."
) -> None:
    """Refuses NaN and infinity in the arrays of `value`; `name` is for the message."""
    for leaf in tf.nest.flatten(value):
        array = np.asarray(leaf)
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            bad = int(np.size(array) - np.isfinite(array).sum())
            raise ValueError(
                f"`{name}` must be finite. Received: {bad} of {array.size} values "
                f"are NaN or infinite. {remedy}"
            )


def check_scaled(
    name: str, value: Any, dtype: Any, *, images: bool = False, hint: str = ""
) -> None:
    """Refuses bytes for an input of floats, because their scale is not known.

    Episodes drawn from a pool scale images of bytes to [0, 1]. Unscaled bytes would be
    255 times as large as in training, and no error would show it. Integer images count
    as bytes too, because NumPy widens bytes, for example in `np.array` of a list.

    Args:
        name: str, the entry's name for the message.
        value: array.
        dtype: the float or integer type of the model's input.
        images: bool, whether the model takes images, for which integers are suspect.
        hint: str, the advice before training; by default advice after training.

    Raises:
        ValueError: if the values are bytes, with the advice.

    >>> check_scaled("x", np.zeros([2, 8, 8, 1], "float32"), "float32")
    """
    if not tf.as_dtype(dtype).is_floating:
        return
    came = tf.as_dtype(
        value.dtype if hasattr(value, "dtype") else np.asarray(value).dtype
    )
    if came == tf.uint8 or (images and came.is_integer and _is_beyond_one(value)):
        how = "scaled" if hint else "scaled as in training"
        hint = _advice(name, value, came, images, hint)
        raise ValueError(
            f"`{name}` must be {tf.as_dtype(dtype).name}, {how}. Received: "
            f"{came.name}. {hint}"
        )


def _advice(name: str, value: Any, came: Any, images: bool, hint: str) -> str:
    """How to scale these values: bytes, other integer images, or a table of bytes."""
    as_floats = f"`{name}.astype('float32')`"
    if not images:
        return (
            f"Pass {as_floats} for numbers such as ages, or `{name} / 255.0` for "
            "flattened images. A network needs the scale that it was trained on."
        )
    largest = 255 if came == tf.uint8 else np.asarray(value).max()
    if not 128 <= largest <= 255:
        return (
            f"These are not bytes: the largest value here is {largest}. Divide by the "
            "largest value that an image can have, the same number for training and "
            "use."
        )
    return hint or (
        f"Pass `{name} / 255.0` if the network was trained on [0, 1], as `NWayKShot` "
        f"makes episodes of bytes, or {as_floats} if it was trained on 0..255."
    )


def _is_beyond_one(value: Any) -> bool:
    if tf.is_symbolic_tensor(value):
        return False  # The values were checked before tracing.
    value = np.asarray(value)
    return bool(value.size and value.max() > 1)


def check_class_numbers(name: str, labels: Any, output: tuple[int, ...]) -> None:
    """Refuses labels that are not class numbers: names, fractions, one-hot rows.

    Args:
        name: str, the entry's name for the message.
        labels: array `[tasks, examples, ...]`.
        output: shape of the model's output, `[examples, ..., classes]`.

    Raises:
        ValueError: with the kind of labels that was received.

    >>> check_class_numbers("support_y", np.array([[0, 1, 2]]), (3, 3))
    """
    labels = np.asarray(labels)
    numeric = labels.dtype.kind not in "OSU"
    wrong = labels[labels % 1 != 0] if numeric else labels.reshape(-1)
    if len(wrong):
        # TensorFlow converts strings to bytes.
        named = isinstance(wrong[0], (bytes, str))
        first = wrong[0].decode() if isinstance(wrong[0], bytes) else wrong[0]
        came = f"{'names' if named else f'{labels.dtype} values'} such as {first}"
        hint = NUMBER
    elif labels.ndim > len(output) and labels.shape[-1] == output[-1] > 1:
        came = f"rows of {output[-1]} numbers, which look one-hot"
        hint = "Pass `y.argmax(-1)`, or use `CategoricalCrossentropy`."
    else:
        return
    raise ValueError(f"`{name}` must hold class numbers. Received: {came}. {hint}")


def check_labels(name: str, labels: Any, width: int) -> None:
    """Refuses class numbers that do not fit the model's output.

    Args:
        name: str, the entry's name for the message.
        labels: int array `[..., examples]`.
        width: int, classes in the model's output.

    Raises:
        ValueError: if the classes in `labels` are not exactly `0 .. width - 1`.

    >>> check_labels("support_y", np.array([0, 1, 2, 2]), 3)
    """
    labels = np.asarray(labels)
    lowest, ways = int(labels.min()), int(labels.max()) + 1
    if lowest == 0 and ways == width:
        return
    tasks = labels.reshape(-1, labels.shape[-1])
    if lowest == 0 and all(len(np.unique(task)) == ways for task in tasks):
        advice = f"Make episodes with ways={width}, or a model with {ways} outputs."
    else:
        advice = NUMBER
    raise ValueError(
        "An episode must have as many ways as the model has outputs. Received: "
        f"`{name}` with labels {lowest}..{ways - 1}, but {width} outputs. {advice}"
    )


def check_label_range(name: str, labels: Any, width: int) -> None:
    """Refuses class numbers outside `0 .. width - 1`."""
    labels = np.asarray(labels)
    if not labels.size:
        return
    if labels.min() < 0 or labels.max() >= width:
        raise ValueError(
            f"`{name}` must hold labels 0..{width - 1}. Received: labels "
            f"{int(labels.min())}..{int(labels.max())}. {NUMBER}"
        )


def _check_equal(
    entries: dict[str, Any], axis: int, names: list[str], what: str
) -> None:
    sizes = {
        name: leaf.shape[axis]
        for name in names
        for leaf in tf.nest.flatten(entries[name])
        if leaf.shape.rank is not None and leaf.shape[axis] is not None
    }
    if len(set(sizes.values())) > 1:
        found = ", ".join(f"{name}: {size}" for name, size in sizes.items())
        raise ValueError(
            f"{' and '.join(f'`{n}`' for n in names)} must have {what} (axis {axis}). "
            f"Received: {found}."
        )


def _check_same_inputs(support_x: Any, query_x: Any) -> None:
    tf.nest.assert_same_structure(support_x, query_x)
    for support, query in zip(tf.nest.flatten(support_x), tf.nest.flatten(query_x)):
        if not support.shape[2:].is_compatible_with(query.shape[2:]):
            raise ValueError(
                "`support_x` and `query_x` must hold examples of one shape. Received: "
                f"{tuple(support.shape[2:])} and {tuple(query.shape[2:])}."
            )


def _alike(nest: Any, other: Any) -> bool:
    if isinstance(nest, dict) or isinstance(other, dict):
        both = isinstance(nest, dict) and isinstance(other, dict)
        return both and set(nest) == set(other)
    sequences = isinstance(nest, (list, tuple)) and isinstance(other, (list, tuple))
    return sequences and len(nest) == len(other)


def _form(nest: Any) -> str:
    if isinstance(nest, dict):
        return f"a dict of {', '.join(map(str, nest))}"
    if isinstance(nest, (list, tuple)):
        return f"a {type(nest).__name__} of {len(nest)}"
    return "one array"

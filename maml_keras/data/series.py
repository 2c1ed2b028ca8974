"""Pools of series, of token lists and of texts, of unequal length."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from maml_keras.data.arrays import from_arrays
from maml_keras.data.pool import Pool


def from_series(
    series: Sequence[Any],
    y: Any,
    *,
    length: int | None = None,
    window: int | None = None,
    stride: int | None = None,
    padding: float = 0,
    lookup: Callable[[Any], Any] | None = None,
    class_names: Sequence[str] | None = None,
    groups: Sequence[str] | None = None,
    example_groups: Sequence[str] | None = None,
) -> Pool:
    """A pool from labelled series, token lists or texts of unequal length.

    Shorter series get `padding` at their ends. A model leaves the padding out with
    `keras.layers.Masking(padding)` as its first layer, or for tokens with
    `Embedding(..., mask_zero=True)`. `mk.data.check_padding` tests that its predictions
    do not depend on the padding.

    Args:
        series: n series, each `[time]` or `[time, channels]` of floats, or `[time]` of
            integers, which are tokens. With `lookup`: n strings, or n lists of words.
        y: labels `[n]`, as in `from_arrays`.
        length: int, the length of all examples. Defaults to that of the longest.
        window: int, cuts each series into windows of this length, each with the label
            of its series. A rest that is shorter than a window is left out. A series
            that is shorter is padded.
        stride: int, steps from one window to the next. Defaults to `window`. Windows
            overlap with a smaller stride; a task may then have a step of a series both
            in its support set and in its queries.
        padding: number that no whole step of a series has. 0 for tokens.
        lookup: a fitted `keras.layers.TextVectorization`, or for lists of words a
            `StringLookup(mask_token="")`: any function of strings that returns tokens
            above 0.
        class_names: as in `from_arrays`.
        groups: as in `from_arrays`.
        example_groups: the group of each series. With `window`, defaults to the number
            of the series, as in `"series 3"`.

    Returns:
        A `Pool` of float32 `[n, length, channels]`, or of int32 tokens `[n, length]`.

    Raises:
        ValueError: naming the series, if one is empty, too long, not finite or of other
            channels, or if one has a step that looks like padding.

    >>> pool = from_series([[1.5, 2.0, 0.5], [3.0]], ["rising", "flat"])
    >>> pool.examples[:, :, 0].tolist()
    [[3.0, 0.0, 0.0], [1.5, 2.0, 0.5]]
    >>> from_series([[7, 3], [9]], [0, 1]).examples.tolist()
    [[7, 3], [9, 0]]
    >>> from_series([range(1, 8), [5, 5]], [0, 1], window=3).examples.tolist()
    [[1, 2, 3], [4, 5, 6], [5, 5, 0]]
    """
    if len(series) != len(y):
        raise ValueError(
            "`series` and `y` must have the same length. Received: "
            f"{len(series)} series and {len(y)} labels. Pass one label per series."
        )
    if not len(series):
        raise ValueError(
            "`series` must hold a series. Received: none. Pass at least 1."
        )
    if lookup is not None:
        series = _looked_up(series, lookup)
    arrays = _alike([_array(i, s, lookup is not None) for i, s in enumerate(series)])
    if window is None and stride is not None:
        raise ValueError(
            f"`stride` needs `window`. Received: stride={stride}. Pass window=..., too."
        )
    owners = np.arange(len(arrays))
    if window is not None:
        pieces = [
            _windows(a, window, window if stride is None else stride) for a in arrays
        ]
        owners = np.repeat(owners, [len(p) for p in pieces])
        arrays = [piece for p in pieces for piece in p]
        if example_groups is None:
            example_groups = [f"series {i}" for i in range(len(series))]
        length = window
    people = None if example_groups is None else np.asarray(example_groups)[owners]
    return from_arrays(
        _padded(arrays, length, padding, owners),
        np.asarray(y)[owners],
        class_names=class_names,
        groups=groups,
        example_groups=people,
    )


def _looked_up(texts: Sequence[Any], lookup: Callable[[Any], Any]) -> list[Any]:
    """The tokens of each text: of a string, or of a list of words."""
    if isinstance(texts[0], str):
        rows = lookup(tf.constant(list(texts)))
        ragged = isinstance(rows, tf.RaggedTensor)
        lists = rows.to_list() if ragged else np.asarray(rows)
        # A layer that pads has put zeros behind the last word.
        return [np.trim_zeros(np.asarray(row, np.int64), "b") for row in lists]
    tokens = np.asarray(lookup(tf.constant([word for t in texts for word in t])))
    ends = np.cumsum([len(text) for text in texts])
    return np.split(tokens, ends[:-1])


def _array(index: int, values: Any, tokens: bool) -> npt.NDArray[Any]:
    try:
        array = np.asarray(values)
        kind = "of text" if array.dtype.kind in "US" else f"of shape {array.shape}"
    except ValueError:  # NumPy refuses steps of unequal length.
        array, kind = np.empty([0], object), "with steps of unequal length"
    if array.dtype.kind not in "iufb" or array.ndim not in (1, 2):
        raise ValueError(
            "Each series must be numbers [time] or [time, channels]. Received: series "
            f"{index} {kind}. Pass lookup=..., a fitted keras.layers.TextVectorization,"
            " for words."
        )
    if not len(array):
        what = "no word that `lookup` keeps" if tokens else "no steps"
        raise ValueError(
            f"Each series must have a step. Received: series {index} with {what}. "
            "Leave it out."
        )
    if not np.isfinite(array).all():
        step = int(np.argwhere(~np.isfinite(array))[0][0])
        raise ValueError(
            f"Each series must be finite. Received: series {index} with NaN or infinity"
            f" in step {step}. Replace or cut this step."
        )
    return array


def _alike(arrays: list[npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
    """All series as tokens `[time]`, or all as floats `[time, channels]`."""
    if all(a.dtype.kind in "iu" and a.ndim == 1 for a in arrays):
        return [a.astype(np.int32) for a in arrays]
    floats = [a.astype(np.float32).reshape(len(a), -1) for a in arrays]
    for index, a in enumerate(floats):
        if a.shape[1] != floats[0].shape[1]:
            raise ValueError(
                "All series must have the same channels. Received: series 0 with "
                f"{floats[0].shape[1]} and series {index} with {a.shape[1]}. Series "
                "are [time, channels]; transpose those of [channels, time]."
            )
    return floats


def _windows(array: npt.NDArray[Any], window: int, stride: int) -> list[Any]:
    for name, value in (("window", window), ("stride", stride)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(
                f"`{name}` must be an integer of at least 1. Received: {value!r}. Pass "
                f"e.g. {name}=50."
            )
    starts = range(0, max(1, len(array) - window + 1), stride)
    return [array[start : start + window] for start in starts]


def _padded(
    arrays: list[npt.NDArray[Any]],
    length: int | None,
    padding: float,
    owners: npt.NDArray[Any],
) -> npt.NDArray[Any]:
    tokens = arrays[0].ndim == 1
    longest = max(map(len, arrays))
    if length is not None and longest > length:
        index = next(i for i, a in enumerate(arrays) if len(a) > length)
        raise ValueError(
            f"`length` must not be shorter than a series. Received: length={length}, "
            f"but series {owners[index]} has {len(arrays[index])} steps. Raise "
            "`length`, or pass window=... to cut series."
        )
    if tokens and padding:
        raise ValueError(
            f"`padding` must be 0 for tokens. Received: {padding}. Leave it out, and "
            "look tokens up with Embedding(..., mask_zero=True)."
        )
    size = longest if length is None else length
    shape = [len(arrays), size, *arrays[0].shape[1:]]
    x = np.full(shape, padding, arrays[0].dtype)
    for row, a in zip(x, arrays, strict=True):
        row[: len(a)] = a
    if min(map(len, arrays)) < size:
        _check_padding(arrays, x.dtype.type(padding), tokens, owners)
    return x


def _check_padding(
    arrays: list[npt.NDArray[Any]],
    padding: Any,
    tokens: bool,
    owners: npt.NDArray[Any],
) -> None:
    """Refuses a step that a mask would take for padding."""
    for index, a in enumerate(arrays):
        like = a == padding if tokens else (a == padding).all(axis=1)
        negative = a < 0 if tokens else np.zeros(len(a), bool)
        if not (like | negative).any():
            continue
        step = int(np.argmax(like | negative))
        where = f"series {owners[index]}, step {step} of its values or of a window"
        if tokens:
            raise ValueError(
                f"Tokens must be above 0, which stands for padding. Received: "
                f"{a[step]} in {where}. Add 1 to all tokens; give a StringLookup "
                "mask_token=''."
            )
        free = float(np.floor(min(a.min() for a in arrays)) - 1)
        raise ValueError(
            f"No step may look like `padding`, or a mask leaves it out. Received: "
            f"padding={padding} and {where}. Pass padding={free} here and to "
            "keras.layers.Masking."
        )

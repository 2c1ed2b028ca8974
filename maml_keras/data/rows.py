"""`Rows`: examples by row number, wherever they are kept."""

from __future__ import annotations

import abc
import hashlib
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf


class Rows(abc.ABC):
    """Examples outside memory, as far as a pool needs an array of them.

    Attributes:
        shape: tuple of ints, `(n, ...)`.
        dtype: the NumPy dtype of the stored examples.
    """

    shape: tuple[int, ...]
    dtype: npt.DTypeLike

    @property
    def ndim(self) -> int:
        """Number of axes, the axis of examples among them."""
        return len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, dtype: Any = None, copy: Any = None) -> npt.NDArray[Any]:
        everything = self[np.arange(len(self))]
        return everything if dtype is None else everything.astype(dtype)

    @abc.abstractmethod
    def __getitem__(self, rows: Any) -> npt.NDArray[Any]:
        """Reads stored examples: `[..., *shape[1:]]` of integers `[...]`."""

    @abc.abstractmethod
    def select(self, rows: npt.NDArray[Any]) -> Rows:
        """The given rows, in the given order, without reading their examples."""

    @abc.abstractmethod
    def gather(self, rows: Any) -> Any:
        """Examples as episodes hold them: uint8 images become float32 in [0, 1].

        Args:
            rows: integer tensor `[...]`.

        Returns:
            Tensor `[..., *shape[1:]]`.
        """

    @abc.abstractmethod
    def keys(self) -> npt.NDArray[Any]:
        """Integers `[n]`, equal for copies of an example, as in `row_keys`."""

    @abc.abstractmethod
    def digest(self) -> bytes:
        """What identifies these rows, without reading all examples."""


class Held:
    """The examples of an array, as a tensor that the functions of `tf.data` share.

    Args:
        examples: array `[n, ...]`.

    >>> Held(np.array([[0.0], [1.0], [2.0]])).gather([2, 0]).numpy().ravel().tolist()
    [2.0, 0.0]
    """

    def __init__(self, examples: Any) -> None:
        # tf.data runs on the CPU, hence the device. Its functions must capture the
        # table as a tensor and not copy it as a constant, hence `init_scope`.
        with tf.init_scope(), tf.device("CPU:0"):
            self._table = tf.constant(examples)

    def gather(self, rows: Any) -> Any:
        """Examples as episodes hold them, as in `Rows.gather`."""
        return scaled(tf.gather(self._table, rows), axes=self._table.shape.rank - 1)


def scaled(examples: Any, *, axes: int) -> Any:
    """Images of bytes as floats in [0, 1]; other bytes as floats of the same value.

    Args:
        examples: tensor.
        axes: int, the axes of one example. Only images have a known scale: a row of a
            table may hold ages.

    >>> scaled(tf.constant([[[0, 255]]], tf.uint8), axes=2).numpy().tolist()
    [[[0.0, 1.0]]]
    >>> scaled(tf.constant([[0, 255]], tf.uint8), axes=1).numpy().tolist()
    [[0.0, 255.0]]
    """
    if examples.dtype != tf.uint8:
        return examples
    return tf.cast(examples, tf.float32) / (255.0 if axes >= 2 else 1.0)


class Rotated:
    """Square images in all four rotations: row `r * n + i` is image i, rotated r times.

    Args:
        images: `Rows` of images `[n, h, h, ...]`.
    """

    def __init__(self, images: Rows) -> None:
        self._images = images

    def gather(self, rows: Any) -> Any:
        """Rotated examples, as in `Rows.gather`."""
        count, rank = len(self._images), tf.convert_to_tensor(rows).shape.rank
        examples = self._images.gather(rows % count)
        axes = list(range(examples.shape.rank))
        axes[rank : rank + 2] = rank + 1, rank
        turns = tf.reshape(
            rows // count,
            tf.concat([tf.shape(rows), [1] * (self._images.ndim - 1)], 0),
        )
        # `np.rot90` as a transposition and reflections of both axes.
        odd = tf.where(turns % 2 == 1, tf.transpose(examples, axes), examples)
        down = (turns == 1) | (turns == 2)
        across = (turns == 2) | (turns == 3)
        turned = tf.where(down, tf.reverse(odd, [rank]), odd)
        return tf.where(across, tf.reverse(turned, [rank + 1]), turned)


def table(examples: Any, *, rotations: bool = False) -> Any:
    """What gathers examples in the functions of `tf.data`.

    Args:
        examples: array or `Rows`, `[n, ...]`, or a dict of them.
        rotations: bool, whether row `r * n + i` is to be image i, rotated r times.

    Returns:
        An object with the method `gather`, or a dict of such objects.

    Raises:
        ValueError: if images to be rotated are not square.
    """
    if isinstance(examples, dict):
        return {k: table(v, rotations=rotations) for k, v in examples.items()}
    if not rotations:
        return examples if isinstance(examples, Rows) else Held(examples)
    if examples.ndim < 3 or examples.shape[1] != examples.shape[2]:
        raise ValueError(
            "`rotate_classes` needs square images [n, h, h, ...]. Received: examples "
            f"of shape {examples.shape[1:]}. Resize them or pass rotate_classes=False."
        )
    if isinstance(examples, Rows):
        return Rotated(examples)
    return Held(np.concatenate([np.rot90(examples, r, axes=(1, 2)) for r in range(4)]))


def gather(table: Any, rows: Any) -> Any:
    """The examples of a table, or of each table of a dict.

    >>> gather({"a": Held(np.arange(3))}, [1])["a"].numpy()
    array([1])
    """
    if isinstance(table, dict):
        return {name: gather(part, rows) for name, part in table.items()}
    return table.gather(rows)


def row_keys(examples: Any) -> npt.NDArray[Any]:
    """A hash of each example, the same in every process, int64 `[n]`.

    Args:
        examples: array or `Rows`, `[n, ...]`, or a dict of them.

    >>> a, b, c = row_keys(np.array([[1, 2], [3, 4], [1, 2]]))
    >>> bool(a == c), bool(a == b)
    (True, False)
    """
    if isinstance(examples, Rows):
        return examples.keys()
    if isinstance(examples, dict):
        return row_keys(np.stack([row_keys(v) for v in examples.values()], axis=1))
    return keys_of(row.tobytes() for row in examples)


def keys_of(contents: Iterable[bytes]) -> npt.NDArray[Any]:
    """A hash of each content, the same in every process, int64 `[n]`.

    >>> len(keys_of([b"a", b"b"]))
    2
    """
    hashes = (hashlib.blake2b(c, digest_size=8).digest() for c in contents)
    return np.array([int.from_bytes(h, "big", signed=True) for h in hashes], np.int64)


def digest(examples: Any) -> bytes:
    """A hash of examples in memory; for `Rows`, what identifies them.

    >>> len(digest(np.arange(3)))
    32
    """
    if isinstance(examples, Rows):
        return examples.digest()
    if isinstance(examples, dict):
        parts = [name.encode() + digest(examples[name]) for name in sorted(examples)]
        return hashlib.sha256(b"".join(parts)).digest()
    return hashlib.sha256(examples.tobytes()).digest()

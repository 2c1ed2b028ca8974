"""Image resizing that is differentiable to every order."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf
from tensorflow.python.ops import gen_image_ops

from maml_keras.backend.overrides import ScopedOverride


@contextlib.contextmanager
def exact_resizing() -> Iterator[None]:
    """A scope in which all methods of resizing are differentiable to every order.

    `y = R x C^T` for each image and channel: a resize is linear in its image, and acts
    on rows and columns separately. TensorFlow's kernels drop the derivative of their
    gradient silently (bilinear), or have no second derivative (bicubic, nearest, area,
    antialiased). A matrix product has all derivatives. To get the matrices R and C,
    TensorFlow's kernel resizes unit images, so the numbers equal the kernel's up to
    rounding.

    A float64 image is resized in float64, and the result is float64. TensorFlow's
    kernels compute in float32.

    `tf.image.resize`, `keras.ops.image.resize`, `Resizing` and `UpSampling2D` all call
    these kernels.

    >>> image = tf.reshape(tf.range(4.0), [1, 2, 2, 1])
    >>> with exact_resizing():
    ...     tf.image.resize(image, [1, 2]).numpy().ravel()
    array([1., 2.], dtype=float32)
    """
    with contextlib.ExitStack() as stack:
        for override in _overrides:
            stack.enter_context(override.scope())
        yield


def _plain(
    _: None, original: Any, images: Any, size: Any, *settings: Any, **more: Any
) -> Any:
    """Replaces kernels that take a size and settings only."""
    images = tf.convert_to_tensor(images)
    if not images.dtype.is_floating:
        return original(images, size, *settings, **more)
    size = _known(tf.convert_to_tensor(size))

    def matrix(unit: Callable[[], Any], sizes: list[Any]) -> Any:
        if not all(isinstance(n, int) for n in (*images.shape[1:3], *size)):
            return original(unit(), sizes, *settings, **more)
        # Make the matrix a constant, because XLA lacks some of these kernels.
        with tf.init_scope():
            return original(unit(), sizes, *settings, **more).numpy()

    return _product(
        images,
        size,
        rows=lambda unit: matrix(unit, [size[0], 1]),
        columns=lambda unit: matrix(unit, [1, size[1]]),
    )


def _nearest(
    _: None, original: Any, images: Any, size: Any, *settings: Any, **more: Any
) -> Any:
    """Replaces the kernel that keeps the type of its images."""
    images = tf.convert_to_tensor(images)
    resized = _plain(None, original, images, size, *settings, **more)
    return tf.cast(resized, images.dtype)


def _scaled(
    _: None,
    original: Any,
    images: Any,
    size: Any,
    scale: Any,
    translation: Any,
    *settings: Any,
    **more: Any,
) -> Any:
    """Replaces the kernel that also takes a scale and a translation for each axis."""
    images = tf.convert_to_tensor(images)
    if not images.dtype.is_floating:
        return original(images, size, scale, translation, *settings, **more)
    size = _known(tf.convert_to_tensor(size))

    def rows(unit: Callable[[], Any]) -> Any:
        sizes, scales, shifts = [size[0], 1], [scale[0], 1.0], [translation[0], 0.0]
        return original(unit(), sizes, scales, shifts, *settings, **more)

    def columns(unit: Callable[[], Any]) -> Any:
        sizes, scales, shifts = [1, size[1]], [1.0, scale[1]], [0.0, translation[1]]
        return original(unit(), sizes, scales, shifts, *settings, **more)

    return _product(images, size, rows=rows, columns=columns)


def _product(
    images: Any,
    size: list[Any],
    *,
    rows: Callable[[Callable[[], Any]], Any],
    columns: Callable[[Callable[[], Any]], Any],
) -> Any:
    """`R x C^T` for each image and channel.

    Args:
        images: `[images, height, width, channels]`.
        size: the new height and width.
        rows: function that applies the kernel to unit images with one column.
        columns: function that applies the kernel to unit images with one row.

    Returns:
        Float64 for float64 images, else float32, like the kernels.
    """
    wide = tf.float64 if images.dtype == tf.float64 else tf.float32
    count, height, width, channels = _known(tf.shape(images), images.shape)
    left, right = (
        tf.cast(tf.transpose(tf.reshape(matrix, [before, after])), wide)
        for matrix, before, after in (
            (rows(lambda: tf.eye(height)[:, :, None, None]), height, size[0]),
            (columns(lambda: tf.eye(width)[:, None, :, None]), width, size[1]),
        )
    )
    x = tf.reshape(tf.cast(images, wide), [count, height, width * channels])
    x = tf.reshape(tf.linalg.matmul(left, x), [count * size[0], width, channels])
    return tf.reshape(tf.linalg.matmul(right, x), [count, *size, channels])


def _known(sizes: Any, static: Any = (None,)) -> list[Any]:
    """Sizes; those that are known when the graph is built become numbers."""
    values = tf.unstack(sizes)
    found = [
        tf.get_static_value(value) if known is None else known
        for value, known in zip(values, itertools.cycle(static))
    ]
    return [v if n is None else int(n) for v, n in zip(values, found)]


_overrides = [
    ScopedOverride(gen_image_ops, "resize_bilinear", _plain),
    ScopedOverride(gen_image_ops, "resize_bicubic", _plain),
    ScopedOverride(gen_image_ops, "resize_area", _plain),
    ScopedOverride(gen_image_ops, "resize_nearest_neighbor", _nearest),
    ScopedOverride(gen_image_ops, "scale_and_translate", _scaled),
]

"""Projective transforms of images with their true derivative."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from maml_keras.backend.overrides import ScopedOverride


def exact_projections() -> contextlib.AbstractContextManager[None]:
    """A scope in which `tf.raw_ops.ImageProjectiveTransformV3` is differentiable.

    `y[i, j] = sum of w x over the nearest pixels` of the point that the transform maps
    `(i, j)` to: differentiable to every order in the images, and in the transform.

    TensorFlow's gradient of the images samples the upstream gradient with the inverse
    transform, which is no transpose of the sampling, and that of the transform is
    dropped. Keras's rotations, shears, zooms, translations and perspectives, and
    `keras.ops.image.affine_transform`, end in this operation.

    >>> image = tf.reshape(tf.range(4.0), [1, 2, 2, 1])
    >>> left = tf.constant([[1.0, 0.0, 0.5, 0.0, 1.0, 0.0, 0.0, 0.0]])
    >>> with exact_projections():
    ...     moved = tf.raw_ops.ImageProjectiveTransformV3(
    ...         images=image, transforms=left, output_shape=[2, 2], fill_value=0.0,
    ...         interpolation="BILINEAR", fill_mode="NEAREST")
    >>> moved.numpy().ravel()
    array([0.5, 1. , 2.5, 3. ], dtype=float32)
    """
    return _override.scope()


def _projected(
    _: None,
    original: Any,
    images: Any,
    transforms: Any,
    output_shape: Any,
    fill_value: Any,
    interpolation: str,
    fill_mode: str = "CONSTANT",
    name: Any = None,
) -> Any:
    images = tf.convert_to_tensor(images)
    if not images.dtype.is_floating:
        return original(
            images=images,
            transforms=transforms,
            output_shape=output_shape,
            fill_value=fill_value,
            interpolation=interpolation,
            fill_mode=fill_mode,
        )
    wide = tf.float64 if images.dtype == tf.float64 else tf.float32
    fill = tf.cast(fill_value, wide)
    inside = _FILLS[fill_mode.upper()]
    sizes = [tf.cast(size, wide) for size in tf.unstack(tf.shape(images)[1:3])]
    y, x, valid = _points(tf.cast(transforms, wide), output_shape)
    y, x = (inside(points, size) for points, size in zip((y, x), sizes))
    if interpolation.upper() == "NEAREST":
        taps = [(_rounded(y), _rounded(x), tf.ones_like(y))]
    else:
        top, left = tf.floor(y), tf.floor(x)
        down, right = y - top, x - left
        taps = [
            (top, left, (1 - down) * (1 - right)),
            (top, left + 1, (1 - down) * right),
            (top + 1, left, down * (1 - right)),
            (top + 1, left + 1, down * right),
        ]
    values = [
        weight[..., None] * _read(tf.cast(images, wide), row, column, fill)
        for row, column, weight in taps
    ]
    moved = tf.where(valid[..., None], tf.add_n(values), fill)
    return tf.cast(moved, images.dtype)


def _points(transforms: Any, output_shape: Any) -> tuple[Any, Any, Any]:
    """Where each output pixel comes from: rows, columns, and whether there is one."""
    height, width = tf.unstack(tf.cast(output_shape, transforms.dtype))
    i, j = tf.meshgrid(tf.range(height), tf.range(width), indexing="ij")
    a = [t[:, None, None] for t in tf.unstack(transforms, 8, axis=1)]
    scale = a[6] * j + a[7] * i + 1
    valid = tf.not_equal(scale, 0)
    scale = tf.where(valid, scale, 1)
    return (
        (a[3] * j + a[4] * i + a[5]) / scale,
        (a[0] * j + a[1] * i + a[2]) / scale,
        valid,
    )


def _rounded(points: Any) -> Any:
    """The nearest pixel, halves away from zero as in TensorFlow's kernel."""
    return tf.sign(points) * tf.floor(tf.abs(points) + 0.5)


def _read(images: Any, rows: Any, columns: Any, fill: Any) -> Any:
    """Pixels `[images, height, width, channels]`, and `fill` outside of the image."""
    count, height, width, channels = tf.unstack(tf.shape(images))
    rows, columns = tf.cast(rows, tf.int32), tf.cast(columns, tf.int32)
    within = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    places = tf.where(within, rows * width + columns, 0)
    # One transform may serve all images.
    shape = tf.concat([[count], tf.shape(places)[1:]], axis=0)
    places = tf.broadcast_to(places, shape)
    flat = tf.reshape(images, [count, height * width, channels])
    found = tf.gather(flat, tf.reshape(places, [count, -1]), batch_dims=1)
    found = tf.reshape(found, tf.concat([shape, [channels]], axis=0))
    return tf.where(within[..., None], found, fill)


def _constant(points: Any, size: Any) -> Any:
    return points


def _nearest(points: Any, size: Any) -> Any:
    return tf.clip_by_value(points, 0, size - 1)


def _reflected(points: Any, size: Any) -> Any:
    """`[abcd]` as `[dcba|abcd|dcba]`."""
    points = tf.math.floormod(points + 0.5, 2 * size) - 0.5
    points = tf.where(points > size - 0.5, 2 * size - 1 - points, points)
    return _nearest(points, size)


def _wrapped(points: Any, size: Any) -> Any:
    """`[abcd]` as `[abcd|abcd|abcd]`, with TensorFlow's way to count the laps."""
    span = tf.maximum(size - 1, 1)
    below = points + size * (tf.floor(-points / span) + 1)
    above = points - size * tf.floor(points / span)
    points = tf.where(points < 0, below, tf.where(points > size - 1, above, points))
    return _nearest(points, size)


_FILLS: dict[str, Callable[[Any, Any], Any]] = {
    "CONSTANT": _constant,
    "NEAREST": _nearest,
    "REFLECT": _reflected,
    "WRAP": _wrapped,
}
_override = ScopedOverride(tf.raw_ops, "ImageProjectiveTransformV3", _projected)

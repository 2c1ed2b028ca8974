"""`ImagePreparation`: images of bytes as a network's numbers, inside the model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

import keras
import numpy as np
import tensorflow as tf

from maml_keras.data.pool_preparation import PoolPreparation, class_numbers

# Images that `fit` reads at once.
AT_ONCE = 1_000


@final
@keras.saving.register_keras_serializable(package="maml_keras")
class ImagePreparation(PoolPreparation):
    """Scales images of bytes, so that the model and its export take raw images.

    `x = (bytes / 255 - mean) / sqrt(variance)`, for each channel

    Without `mean` and `variance` the images are in [0, 1], as the episodes of any pool
    of bytes. Keras's layers `Rescaling` and `Normalization` do the work, outside the
    network, so adaptation does not differentiate them.

    Args:
        shape: ints `(height, width, channels)`.
        mean: None, or a float for each channel, in the scale of [0, 1].
        variance: None, or a float for each channel.

    Raises:
        ValueError: if the arguments do not fit each other.

    >>> preparation = ImagePreparation([1, 2, 1], mean=[0.5], variance=[0.25])
    >>> raw = np.array([0, 255], np.uint8).reshape(1, 1, 2, 1)
    >>> preparation.inputs(raw).numpy().ravel().tolist()
    [-1.0, 1.0]
    """

    def __init__(
        self,
        shape: Sequence[int],
        *,
        mean: Sequence[float] | None = None,
        variance: Sequence[float] | None = None,
    ) -> None:
        self.shape = tuple(int(size) for size in shape)
        self.mean = None if mean is None else [float(m) for m in mean]
        self.variance = None if variance is None else [float(v) for v in variance]
        if len(self.shape) != 3:
            raise ValueError(
                "`shape` must be (height, width, channels). Received: "
                f"{self.shape}. Give grey images a last axis: `x[..., None]`."
            )
        lengths = [len(m) for m in (self.mean, self.variance) if m is not None]
        if lengths not in ([], [self.shape[-1]] * 2):
            raise ValueError(
                "`mean` and `variance` must both have a number for each of "
                f"{self.shape[-1]} channels. Received: mean={mean}, "
                f"variance={variance}. Let `ImagePreparation.fit` compute them."
            )
        self.x_spec = tf.TensorSpec([None, *self.shape], tf.uint8)
        self._normalise: Any = None
        with tf.init_scope(), tf.device("CPU:0"):
            self._rescale = keras.layers.Rescaling(1 / 255, dtype="float32")
            if self.mean is not None:
                self._normalise = keras.layers.Normalization(
                    mean=self.mean, variance=self.variance, dtype="float32"
                )
                self._normalise.build([None, *self.shape])

    @classmethod
    def fit(cls, train: Any) -> ImagePreparation:
        """The preparation with mean and variance of the training images.

        Args:
            train: the `Pool` of the training classes alone.

        Raises:
            ValueError: if the pool does not hold images of bytes, or a channel has the
                same value everywhere.

        >>> from maml_keras.data import from_arrays
        >>> images = np.array([0, 0, 255, 255], np.uint8).reshape(4, 1, 1, 1)
        >>> preparation = ImagePreparation.fit(from_arrays(images, [0, 0, 1, 1]))
        >>> preparation.mean, preparation.variance
        ([0.5], [0.25])
        """
        _check_bytes(train)
        # The moments follow from how often each byte is there, exactly.
        channels = train.examples.shape[-1]
        counts = np.zeros([channels, 256], np.int64)
        for start in range(0, train.num_examples, AT_ONCE):
            part = np.asarray(train.examples[start : start + AT_ONCE])
            for channel, count in enumerate(counts):
                count += np.bincount(part[..., channel].ravel(), minlength=256)
        values = np.arange(256) / 255.0
        shares = counts / counts.sum(axis=1, keepdims=True)
        mean = shares @ values
        variance = (shares * (values - mean[:, None]) ** 2).sum(axis=1)
        if not variance.all():
            raise ValueError(
                "The channels of the training images must vary. Received: the same "
                f"value everywhere in channel {int(np.argmin(variance))}. Leave the "
                "channel out, or use `ImagePreparation(shape)`, which only scales."
            )
        shape = train.examples.shape[1:]
        return cls(shape, mean=mean.tolist(), variance=variance.tolist())

    def inputs(self, x: Any) -> Any:
        """The network's inputs of raw images.

        Args:
            x: uint8 tensor `[examples, height, width, channels]`.
        """
        return self.of_pool(self._rescale(tf.cast(x, tf.float32)))

    def of_pool(self, x: Any) -> Any:
        """The network's inputs of images that are scaled to [0, 1] already.

        Args:
            x: float tensor `[..., height, width, channels]`.
        """
        if self._normalise is None:
            return x
        shape = tf.shape(x)
        images = self._normalise(tf.reshape(x, [-1, *self.shape]))
        return tf.ensure_shape(tf.reshape(images, shape), x.shape)

    @property
    def changes_the_pool(self) -> bool:
        """Whether there is a mean: a plain pool scales to [0, 1], too."""
        return self.mean is not None

    def is_raw(self, x: Any) -> bool:
        """Whether an array has bytes, as `raw` takes them."""
        return getattr(x, "dtype", None) in (np.uint8, tf.uint8)

    def raw(self, x: Any, y: Any = None) -> tuple[Any, Any]:
        """Images and class numbers, checked.

        Args:
            x: uint8 array `[examples, height, width, channels]`.
            y: class numbers `[examples]`, or None.

        Raises:
            ValueError: if the images are no bytes or have another shape.
        """
        x = np.asarray(x)
        if x.dtype != np.uint8 or x.shape[1:] != self.shape:
            raise ValueError(
                f"`x` must be images of bytes (uint8), [examples, "
                f"{', '.join(map(str, self.shape))}]. Received: {x.dtype} of shape "
                f"{x.shape}. Pass the raw images: the model scales them itself."
            )
        return x, class_numbers(y)

    def check(self, pool: Any) -> None:
        """Refuses a pool that this preparation cannot prepare.

        Raises:
            ValueError: if the pool does not hold images of bytes of this shape.
        """
        _check_bytes(pool)
        found = tuple(pool.examples.shape[1:])
        if found != self.shape:
            raise ValueError(
                f"The images must have the shape {self.shape} of the preparation. "
                f"Received: {found}. Pass `size` to the loader, or resize them."
            )

    def described(self) -> dict[str, Any]:
        """Facts for the card."""
        if self.variance is None:
            return {"images": "bytes, divided by 255"}
        return {
            "images": "bytes, divided by 255 and normalised for each channel",
            "mean": self.mean,
            "standard_deviation": np.sqrt(self.variance).tolist(),
        }

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments as plain data."""
        return {
            "shape": list(self.shape),
            "mean": self.mean,
            "variance": self.variance,
        }


def _check_bytes(pool: Any) -> None:
    several = isinstance(pool.examples, dict)
    if several or pool.examples.dtype != np.uint8 or pool.examples.ndim != 4:
        raise ValueError(
            "The pool must hold images of bytes (uint8), [n, height, width, channels]. "
            f"Received: {pool!r}. Scale other inputs yourself, or with a layer "
            "`Normalization` of the network."
        )

"""DropBlock: dropout of whole squares of a feature map."""

from __future__ import annotations

from typing import Any

import keras


@keras.saving.register_keras_serializable(package="maml_keras")
class DropBlock(keras.layers.Layer):
    """Sets random squares of each channel to zero in training.

    Each square of the map is dropped with the probability
    `rate / size^2 * h w / ((h - size + 1) (w - size + 1))`, so about a share `rate` of
    the numbers is dropped; overlaps make the share smaller. What is left of an example
    is scaled up: `y = x * mask / mean(mask)`. Examples do not depend on each other, so
    padding changes nothing. In a map smaller than `size`, the square is as large as the
    map.

    Args:
        rate: float in `[0, 1)`.
        size: int above 0, height and width of a square.
        seed: int or None, for the layer's own generator.

    Raises:
        ValueError: if an argument is out of range.

    Reference: Ghiasi et al., 2018, https://arxiv.org/abs/1810.12890

    >>> import maml_keras as mk
    >>> x = np.ones([1, 8, 8, 4], "float32")
    >>> dropped = mk.models.DropBlock(0.2, size=3, seed=0)(x, training=True).numpy()
    >>> bool((dropped == 0.0).any()), round(float(dropped.mean()), 4)
    (True, 1.0)
    """

    def __init__(
        self, rate: float, *, size: int = 5, seed: int | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if not 0.0 <= float(rate) < 1.0:
            raise ValueError(f"`rate` must be in [0, 1). Received: rate={rate!r}.")
        if isinstance(size, bool) or int(size) != size or size < 1:
            raise ValueError(
                f"`size` must be an integer, 1 or more. Received: size={size!r}."
            )
        self.rate = float(rate)
        self.size = int(size)
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.built = True

    def call(self, x: Any, training: bool = False) -> Any:
        """The map `[examples, height, width, channels]`, with squares left out."""
        if not training or self.rate == 0.0:
            return x
        height, width = int(x.shape[1]), int(x.shape[2])
        size = min(self.size, height, width)
        rows, columns = height - size + 1, width - size + 1
        share = self.rate / size**2 * (height * width) / (rows * columns)
        shape = (keras.ops.shape(x)[0], rows, columns, x.shape[3])
        drawn = keras.random.uniform(shape, seed=self.seed_generator, dtype=x.dtype)
        corners = keras.ops.cast(drawn < share, x.dtype)
        margin = size - 1
        padded = keras.ops.pad(corners, [(0, 0), *[(margin, margin)] * 2, (0, 0)])
        dropped = keras.ops.max_pool(padded, size, strides=1, padding="valid")
        kept = keras.ops.stop_gradient(1.0 - dropped)
        mean = keras.ops.mean(kept, axis=(1, 2, 3), keepdims=True)
        return x * keras.ops.divide_no_nan(kept, mean)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """The shape of the input."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        own = {"rate": self.rate, "size": self.size, "seed": self.seed}
        return {**super().get_config(), **own}

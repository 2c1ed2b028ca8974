"""ResNet-12: the residual network of few-shot classification."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from maml_keras.models.drop_block import DropBlock


def resnet12(
    *,
    ways: int = 5,
    shape: Sequence[int] = (84, 84, 3),
    filters: Sequence[int] = (64, 160, 320, 640),
    drop_rate: float = 0.1,
    block_size: int = 5,
) -> keras.Model:
    """The residual network of few-shot classification, with twelve convolutions.

    Each block has three 3x3 convolutions with batch norm and LeakyReLU (slope 0.1), a
    1x1 convolution with batch norm beside them, 2x2 max-pooling, and dropout: of single
    numbers in the first half of the blocks, of squares (`DropBlock`) in the second. The
    spatial mean and a dense head follow. The body has 12.4 million parameters;
    `filters=(64, 128, 256, 512)` gives the other usual form, with 8.0 million.

    The dropout rate is constant, where the paper's code lets it rise from zero. The
    paper's support vector machine gets all positions of the last map in place of their
    mean.

    Args:
        ways: int, classes of an episode, which is the width of the head.
        shape: `(height, width, channels)` of an image, at least 16 by 16 for four
            blocks.
        filters: ints, channels of each block.
        drop_rate: float in `[0, 1)`; 0 for no dropout.
        block_size: int, height and width of the dropped squares.

    Returns:
        A built model `[examples, height, width, channels] -> logits [examples, ways]`.

    Raises:
        ValueError: if an image is too small to be halved by each block.

    Reference: Lee et al., 2019, https://arxiv.org/abs/1904.03758; Oreshkin et al.,
    2018, https://arxiv.org/abs/1805.10123

    >>> import maml_keras as mk
    >>> mk.models.resnet12(filters=(4, 8), shape=(16, 16, 3)).output_shape
    (None, 5)
    """
    smallest = 2 ** len(filters)
    if min(shape[:2]) < smallest:
        raise ValueError(
            f"`shape` must be at least {smallest} by {smallest} for {len(filters)} "
            f"blocks, which halve an image. Received: shape={tuple(shape)}."
        )
    x = images = keras.Input(tuple(shape))
    for number, width in enumerate(filters):
        x = _block(x, width, name=f"block_{number + 1}")
        squares = number >= len(filters) // 2
        if drop_rate and squares:
            x = DropBlock(drop_rate, size=block_size)(x)
        elif drop_rate:
            x = keras.layers.Dropout(drop_rate)(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    logits = keras.layers.Dense(ways, name="head")(x)
    return keras.Model(images, logits, name="resnet12")


def _block(x: Any, width: int, *, name: str) -> Any:
    """Three convolutions and a short cut beside them, then pooling."""
    short = _normalised(x, width, 1, name=f"{name}_short")
    for number in (1, 2):
        x = _normalised(x, width, 3, name=f"{name}_{number}")
        x = keras.layers.LeakyReLU(0.1)(x)
    x = _normalised(x, width, 3, name=f"{name}_3")
    x = keras.layers.LeakyReLU(0.1)(keras.layers.Add()([x, short]))
    return keras.layers.MaxPooling2D(2)(x)


def _normalised(x: Any, width: int, size: int, *, name: str) -> Any:
    """A convolution without bias, and batch norm."""
    initial = keras.initializers.VarianceScaling(2.0, "fan_out", "untruncated_normal")
    convolution = keras.layers.Conv2D(
        width,
        size,
        padding="same",
        use_bias=False,
        kernel_initializer=initial,
        name=f"{name}_convolution",
    )
    return keras.layers.BatchNormalization(name=f"{name}_norm")(convolution(x))

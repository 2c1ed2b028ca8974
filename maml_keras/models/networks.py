"""The reference networks of the papers."""

from __future__ import annotations

from collections.abc import Sequence

import keras

from maml_keras.models.context_layers import ContextFilm, ContextInput

__all__ = ["ContextFilm", "ContextInput", "conv4", "mlp"]


def mlp(
    *,
    inputs: int = 1,
    hidden: Sequence[int] = (40, 40),
    outputs: int = 1,
    activation: str = "relu",
    context: int = 0,
) -> keras.Model:
    """The regression network of the sinusoid experiment.

    Two dense layers of 40 units with ReLU, and a linear head. Initial weights are
    truncated normal with standard deviation 0.01, initial biases are zero. There is no
    normalisation.

    Args:
        inputs: int, features of an example.
        hidden: ints, units of each hidden layer.
        outputs: int, outputs of the head.
        activation: str, a Keras activation.
        context: int, number of context parameters that are appended to the inputs
            (CAVIA); 0 for none.

    Returns:
        A built model `[examples, inputs] -> [examples, outputs]`.

    Reference: Finn et al., 2017, https://arxiv.org/abs/1703.03400

    >>> mlp().count_params()
    1761
    """
    initial = keras.initializers.TruncatedNormal(stddev=0.01)
    layers = [
        keras.layers.Dense(units, activation=activation, kernel_initializer=initial)
        for units in hidden
    ]
    head = keras.layers.Dense(outputs, kernel_initializer=initial, name="head")
    joined = [ContextInput(context, name="context_input")] if context else []
    return keras.Sequential([keras.Input([inputs]), *joined, *layers, head], name="mlp")


def conv4(
    *,
    ways: int = 5,
    shape: Sequence[int] = (28, 28, 1),
    filters: int = 64,
    max_pool: bool = False,
    context: int = 0,
) -> keras.Model:
    """The four-block convolutional network of few-shot classification.

    Form for Omniglot: four blocks of a 3x3 convolution with stride 2, batch norm and
    ReLU, then the spatial mean. Form for mini-ImageNet (`max_pool=True`): blocks of a
    convolution with stride 1, batch norm, ReLU and 2x2 max-pooling, then flattening.
    A dense head gives the logits.

    Args:
        ways: int, classes of an episode, which is the width of the head.
        shape: `(height, width, channels)` of an image.
        filters: int, channels of each block.
        max_pool: bool, whether to use max-pooling instead of strides.
        context: int, number of context parameters that scale and shift the channels
            of the third block (CAVIA); 0 for none.

    Returns:
        A built model `[examples, height, width, channels] -> logits [examples, ways]`.

    Reference: Finn et al., 2017, https://arxiv.org/abs/1703.03400

    >>> conv4().output_shape
    (None, 5)
    """
    layers: list[keras.layers.Layer] = []
    for block in range(4):
        layers += [
            keras.layers.Conv2D(filters, 3, 1 if max_pool else 2, padding="same"),
            keras.layers.BatchNormalization(),
        ]
        if context and block == 2:
            layers.append(ContextFilm(context, name="film"))
        layers.append(keras.layers.ReLU())
        if max_pool:
            layers.append(keras.layers.MaxPooling2D(2))
    layers.append(
        keras.layers.Flatten() if max_pool else keras.layers.GlobalAveragePooling2D()
    )
    head = keras.layers.Dense(ways, name="head")
    return keras.Sequential([keras.Input(tuple(shape)), *layers, head], name="conv4")

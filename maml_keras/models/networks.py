"""The reference learners of the papers."""

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

    Dense layers of 40 and 40 units with ReLU and a linear head; weights truncated
    normal with standard deviation 0.01, biases zero, no normalisation.

    Args:
        inputs: int, features of an example.
        hidden: ints, units of each hidden layer.
        outputs: int, outputs of the head.
        activation: str, a Keras activation.
        context: int, context parameters that join the inputs (CAVIA); 0 for none.

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

    Omniglot form: four blocks of a 3x3 convolution with stride 2, batch norm and
    ReLU, then the spatial mean. mini-ImageNet form (`max_pool=True`): stride 1, batch
    norm, ReLU, 2x2 max-pooling, flattened. A dense head gives the logits.

    Args:
        ways: int, classes of an episode: the width of the head.
        shape: `(height, width, channels)` of an image.
        filters: int, channels of each block.
        max_pool: bool, pooling in place of strides.
        context: int, context parameters that scale and shift the third block's
            channels (CAVIA); 0 for none.

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

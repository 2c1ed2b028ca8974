"""The networks as Keras models of stock layers, with a workload's weights."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers

from benchmarks.networks import EPSILON, WAYS, Conv, Lstm, Mlp, Transformer
from benchmarks.workloads import Workload


def build(workload: Workload, variant: dict[str, Any]) -> keras.Model:
    """The model; in float64 if the workload is."""
    keras.config.set_floatx(workload.dtype)
    models = {"mlp": mlp, "conv": conv, "transformer": transformer, "lstm": lstm}
    activation = "softplus" if workload.smooth else "relu"
    model = models[workload.network.kind](workload.network, activation, variant)
    weights = workload.weights()
    for variable, value in zip(model.trainable_variables, weights, strict=True):
        variable.assign(value)
    return model


def mlp(network: Mlp, activation: str, variant: dict[str, Any]) -> keras.Model:
    """Dense layers."""
    hidden = [layers.Dense(network.units, activation=activation) for _ in range(2)]
    return keras.Sequential([keras.Input([1]), *hidden, layers.Dense(1)])


def conv(network: Conv, activation: str, variant: dict[str, Any]) -> keras.Model:
    """Convolution, batch norm, activation and perhaps pooling, four times."""
    # The activation tells whether this is the smooth twin, with smooth pooling.
    smooth = activation == "softplus"
    pooling = layers.AveragePooling2D if smooth else layers.MaxPooling2D
    stack: list[layers.Layer] = []
    for _ in range(4):
        strides = 1 if network.max_pool else 2
        stack.append(layers.Conv2D(network.filters, 3, strides, padding="same"))
        stack.append(layers.BatchNormalization(epsilon=EPSILON))
        stack.append(layers.Activation(activation) if smooth else layers.ReLU())
        if network.max_pool:
            stack.append(pooling(2))
    ending = layers.Flatten if network.max_pool else layers.GlobalAveragePooling2D
    image = keras.Input([network.side, network.side, network.channels])
    return keras.Sequential([image, *stack, ending(), layers.Dense(WAYS)])


def transformer(
    network: Transformer, activation: str, variant: dict[str, Any]
) -> keras.Model:
    """Post-norm blocks over token and position embeddings."""
    tokens = keras.Input([network.length], dtype="int32")
    positions = keras.ops.zeros_like(tokens) + np.arange(network.length, dtype="int32")
    x = layers.Embedding(network.vocabulary, network.width)(tokens)
    x = layers.Add()([x, layers.Embedding(network.length, network.width)(positions)])
    for _ in range(network.blocks):
        size = network.width // network.heads
        attended = layers.MultiHeadAttention(network.heads, size)(x, x)
        x = layers.LayerNormalization(epsilon=EPSILON)(layers.Add()([x, attended]))
        hidden = layers.Dense(network.hidden, activation=activation)(x)
        hidden = layers.Dense(network.width)(hidden)
        x = layers.LayerNormalization(epsilon=EPSILON)(layers.Add()([x, hidden]))
    x = layers.GlobalAveragePooling1D()(x)
    return keras.Model(tokens, layers.Dense(WAYS)(x))


def lstm(network: Lstm, activation: str, variant: dict[str, Any]) -> keras.Model:
    """Keras's LSTM and a dense head."""
    series = keras.Input([network.time, network.features])
    recurrent = layers.LSTM(network.units, unroll=variant.get("unroll", False))
    return keras.Sequential([series, recurrent, layers.Dense(1)])

"""Pretrained networks under a new head, plain and with low-rank adapters.

docs/howto/adapters.md has the code of this file; a test compares the two.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

import maml_keras as mk

RANK = 4


def rebuilt(network, change):
    """A copy with the same weights, with `change(layer)` in place of a layer."""

    def clone(layer):
        return change(layer) or type(layer).from_config(layer.get_config())

    copy = keras.models.clone_model(network, clone_function=clone)
    values = {v.path: v for v in network.variables}
    for variable in copy.variables:
        if variable.path in values:
            variable.assign(np.reshape(values[variable.path], variable.shape))
    return copy


def as_dense(layer):
    """A Dense layer that computes the same as a convolution of single pixels."""
    if (
        type(layer) is not keras.layers.Conv2D
        or (layer.kernel_size, layer.strides) != ((1, 1), (1, 1))
        or layer.groups != 1
    ):
        return None
    return keras.layers.Dense(
        layer.filters, layer.activation, layer.use_bias, name=layer.name
    )


def mobilenet(size: int = 96, alpha: float = 1.0, ways: int = 5) -> keras.Model:
    """The MobileNetV2 of `keras.applications` under a new head."""
    body = keras.applications.MobileNetV2(
        input_shape=(size, size, 3),
        alpha=alpha,
        include_top=False,
        pooling="avg",
        weights=None,
    )
    head = keras.layers.Dense(ways, name="head")
    return keras.Model(body.input, head(body.output))


def adapted_mobilenet(network: keras.Model) -> keras.Model:
    """The frozen network with adapters of its 1x1 convolutions, and its head."""
    adapted = mk.with_low_rank_adapters(
        rebuilt(network, as_dense), RANK, layers=lambda layer: layer.name != "head"
    )
    adapted.get_layer("head").trainable = True
    return adapted


def bert(ways: int = 5, **sizes: Any) -> keras.Model:
    """A BERT of KerasHub under a new head; by default as `bert_small_en_uncased`."""
    import keras_hub

    small = {
        "vocabulary_size": 30_522,
        "num_layers": 4,
        "num_heads": 8,
        "hidden_dim": 512,
        "intermediate_dim": 2_048,
    }
    body = keras_hub.models.BertBackbone(**{**small, **sizes})
    head = keras.layers.Dense(ways, name="head")
    return keras.Model(body.input, head(body.output["pooled_output"]))


def adapted_bert(network: keras.Model) -> keras.Model:
    """The frozen network with adapters of its queries and values, and its head."""
    from benchmarks.adapted_encoder import AdaptedEncoder, as_adapted

    adapted = rebuilt(network, as_adapted)
    for layer in adapted.layers:
        if not isinstance(layer, AdaptedEncoder) and layer.name != "head":
            layer.trainable = False
    return adapted

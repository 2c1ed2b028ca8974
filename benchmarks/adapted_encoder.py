"""KerasHub's transformer block with low-rank adapters of its attention.

docs/howto/adapters.md has the code of this file; a test compares the two.
"""

import keras
import keras_hub

import maml_keras as mk

RANK = 4


@keras.saving.register_keras_serializable(package="my_project")
class AdaptedEncoder(keras_hub.layers.TransformerEncoder):
    """A frozen transformer block with adapters of its queries and values."""

    def __init__(self, *, rank, **config):
        super().__init__(**config)
        self.rank = rank

    def build(self, inputs_shape):
        super().build(inputs_shape)
        for layer in self._flatten_layers(include_self=False):
            layer.trainable = False
        plain = self._self_attention_layer
        self._layers.remove(plain)
        config = {**plain.get_config(), "trainable": True, "rank": self.rank}
        self._self_attention_layer = mk.LowRankAttention.from_config(config)
        self._self_attention_layer.build(inputs_shape, inputs_shape)

    def get_config(self):
        return {**super().get_config(), "rank": self.rank}


def as_adapted(layer):
    """The block with adapters in place of KerasHub's block."""
    if type(layer) is not keras_hub.layers.TransformerEncoder:
        return None
    return AdaptedEncoder.from_config({**layer.get_config(), "rank": RANK})

"""Networks and layers for meta-learning: the networks of the papers, context layers
and low-rank adapters."""

from maml_keras.models.adapters import with_low_rank_adapters
from maml_keras.models.context_layers import ContextFilm, ContextInput
from maml_keras.models.drop_block import DropBlock
from maml_keras.models.low_rank import LowRank
from maml_keras.models.low_rank_attention import LowRankAttention
from maml_keras.models.networks import conv4, mlp
from maml_keras.models.residual_network import resnet12

__all__ = [
    "ContextFilm",
    "ContextInput",
    "DropBlock",
    "LowRank",
    "LowRankAttention",
    "conv4",
    "mlp",
    "resnet12",
    "with_low_rank_adapters",
]

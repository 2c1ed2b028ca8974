"""Models that cannot be meta-learned are refused when they are wrapped."""

import keras
import pytest

from maml_keras import MAML, SGD, InnerLoop

layers = keras.layers


def looked_up():
    layer = layers.StringLookup()
    layer.adapt(["a", "b"])
    return layer


def vectorised():
    layer = layers.TextVectorization(output_sequence_length=1)
    layer.adapt(["a", "b"])
    return layer


@pytest.mark.parametrize("make", [looked_up, vectorised])
def test_a_vocabulary_in_the_model_is_refused_before_training(make):
    words = keras.Input([1], dtype="string")
    x = layers.Flatten()(layers.Embedding(9, 3)(make()(words)))
    model = keras.Model(words, layers.Dense(2)(x))
    with pytest.raises(ValueError, match="vocabulary in a table.*Apply the layer"):
        MAML(model, InnerLoop("mse", SGD(0.1)))

"""Models that cannot be meta-learned are refused when they are wrapped."""

import keras
import numpy as np
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


def with_adapters(layer, shape):
    model = keras.Sequential([keras.Input(shape), layer])
    layer.enable_lora(2)
    return model


ADAPTED = {
    "Dense": lambda: (layers.Dense(4), [3]),
    "EinsumDense": lambda: (layers.EinsumDense("ab,bc->ac", 4), [3]),
    "Embedding": lambda: (layers.Embedding(5, 4), [3]),
    "Conv1D": lambda: (layers.Conv1D(4, 2), [3, 2]),
}


@pytest.mark.parametrize("name", ADAPTED)
def test_adapters_that_saving_would_lose_are_refused(name):
    model = with_adapters(*ADAPTED[name]())
    with pytest.raises(ValueError, match=f"\\({name}\\).*with_low_rank_adapters"):
        MAML(model, InnerLoop("mse", SGD(0.1)))


def test_frozen_adapters_are_a_part_of_the_kernel(tmp_path):
    layer = layers.Dense(4)
    model = with_adapters(layer, [3])
    layer.lora_kernel_b.assign(keras.random.normal(layer.lora_kernel_b.shape))
    layer.trainable = False
    model = keras.Sequential([keras.Input([3]), layer, layers.Dense(1)])
    maml = MAML(model, InnerLoop("mse", SGD(0.1)))
    maml.save(tmp_path / "maml.keras")
    loaded = keras.saving.load_model(tmp_path / "maml.keras")
    x = keras.random.normal([5, 3])
    np.testing.assert_allclose(loaded.model(x), model(x), rtol=1e-5)

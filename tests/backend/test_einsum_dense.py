"""`EinsumDense` as matrix products gives the results of Keras."""

import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from keras_layers import assert_same, normal, operations

from maml_keras.backend.einsum_dense import as_products


@pytest.mark.parametrize(
    ("equation", "shape", "bias", "product"),
    [
        ("abc,cd->abd", (None, 5), "d", True),
        ("abc,cde->abde", (None, 5, 2), "de", True),
        ("abc,bcd->ad", (5,), "d", True),
        ("abc,cd->abd", (None, 5), None, True),
        ("abc,cd->abd", (4, 5), "bd", False),
        ("abc,cde->abde", (None, 5, 2), "d", False),
        ("abc,cde->abde", (None, 5, 2), "e", False),
        ("abc,cde->abed", (None, 2, 5), "de", False),
        ("abc,bd->adc", (5, 3), "d", False),
        ("...c,cd->...d", (5,), "d", False),
    ],
)
def test_einsum_dense(equation, shape, bias, product, dtype):
    layer = layers.EinsumDense(equation, shape, bias_axes=bias, activation="tanh")
    x = normal(2, 4, 3)
    assert_same(layer, [x], as_products)
    with as_products():
        assert ("MatMul" in operations(layer, x)) == product
    assert "MatMul" not in operations(layer, x)


def test_einsum_dense_of_unknown_sizes():
    layer = layers.EinsumDense("abc,cde->abde", (None, 5, 2), bias_axes="de")
    x = normal(2, 4, 3)
    expected = layer(x)
    spec = tf.TensorSpec([None, None, 3], x.dtype)
    with as_products():
        function = tf.function(layer, input_signature=[spec], autograph=False)
        assert function.get_concrete_function().output_shapes[2:] == [5, 2]
    np.testing.assert_allclose(function(x), expected, atol=1e-6)  # float32


def test_low_rank_adapters_of_einsum_dense_are_included():
    layer = layers.EinsumDense("abc,cde->abde", (None, 5, 2), bias_axes="de")
    x = normal(2, 4, 3)
    without = layer(x)
    layer.enable_lora(2)
    assert_same(layer, [x], as_products)
    assert np.abs(layer(x) - without).max() > 0.1


def test_quantized_einsum_dense_keeps_kerass_code():
    layer = layers.EinsumDense("abc,cde->abde", (None, 5, 2), bias_axes="de")
    x = normal(2, 4, 3)
    layer(x)
    layer.quantize("int8")
    with as_products():
        got = layer(x)
    np.testing.assert_array_equal(got, layer(x))

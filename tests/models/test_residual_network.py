"""ResNet-12 has the parameters of the papers, and is meta-learned like any network."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import classification, tensors

import maml_keras as mk
from maml_keras.models.drop_block import DropBlock
from maml_keras.models.residual_network import resnet12

CROSS_ENTROPY = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


@pytest.mark.parametrize(
    ("filters", "published"),
    [((64, 160, 320, 640), 12.4e6), ((64, 128, 256, 512), 8.0e6)],
)
def test_the_body_has_the_published_number_of_parameters(filters, published):
    model = resnet12(filters=filters)
    body = sum(v.numpy().size for v in model.trainable_variables[:-2])
    # Three 3x3 kernels, the 1x1 kernel beside them, and four batch norms a block.
    by_hand = sum(
        9 * (i * o + 2 * o * o) + i * o + 4 * 2 * o
        for i, o in zip((3, *filters), filters)
    )
    assert body == by_hand
    assert round(body / 1e6, 1) == published / 1e6
    assert model.output_shape == (None, 5)


def test_the_layers_are_those_of_the_paper():
    model = resnet12(filters=(4, 4, 4, 4))
    of = lambda kind: [x for x in model.layers if isinstance(x, kind)]  # noqa: E731
    convolutions = of(keras.layers.Conv2D)
    assert [x.kernel_size for x in convolutions].count((3, 3)) == 12
    assert not any(x.use_bias for x in convolutions)
    assert {round(x.negative_slope, 6) for x in of(keras.layers.LeakyReLU)} == {0.1}
    assert len(of(keras.layers.LeakyReLU)) == 12
    sizes = [layer.output.shape[1] for layer in of(keras.layers.MaxPooling2D)]
    assert sizes == [42, 21, 10, 5]
    assert [x.rate for x in of(keras.layers.Dropout)] == [0.1, 0.1]
    assert [(x.rate, x.size) for x in of(DropBlock)] == [(0.1, 5), (0.1, 5)]
    # The short cut joins before the last activation of a block.
    joined = model.get_layer("block_1_short_norm").output
    assert isinstance(of(keras.layers.Add)[0], keras.layers.Add)
    assert joined is of(keras.layers.Add)[0].input[1]


def small(drop_rate=0.0, filters=(3, 4), **kwargs):
    keras.utils.set_random_seed(0)
    model = resnet12(
        ways=3, shape=(8, 8, 2), filters=filters, drop_rate=drop_rate, block_size=2
    )
    inner = mk.InnerLoop(CROSS_ENTROPY, mk.SGD(0.05))
    return mk.MAML(model, inner, seed=0, **kwargs)


BATCH = classification((8, 8, 2), shots=1, queries=1)


@pytest.mark.journey
@pytest.mark.graphs
def test_the_meta_gradient_is_right():
    checks = mk.check_meta_gradient(small(filters=(3,)), BATCH)
    assert sum(check.decided for check in checks) >= 0.8 * len(checks)


@pytest.mark.slow
def test_every_task_map_draws_the_same_masks():
    seed = tf.constant([3, 4])
    expected = small(0.3, task_map="sequential").compute_meta_gradients(
        BATCH, seed=seed
    )
    for task_map in ("parallel", mk.Chunked(1)):
        other = small(0.3, task_map=task_map)
        step = tf.function(other.compute_meta_gradients, autograph=False)
        loss, gradients = step(tensors(BATCH), seed=seed)
        np.testing.assert_allclose(loss, expected[0], rtol=1e-4)
        for one, other in zip(gradients, expected[1]):
            np.testing.assert_allclose(one, other, rtol=2e-3, atol=2e-5)  # float32


@pytest.mark.slow
@pytest.mark.graphs
def test_the_network_trains_and_is_saved(tmp_path):
    maml = small(0.3, task_map="parallel")
    maml.compile("adam", jit_compile=False)
    before = [v.numpy() for v in maml.trainable_variables]
    maml.fit(*BATCH, epochs=2, verbose=0)
    assert all(np.isfinite(v).all() for v in maml.trainable_variables)
    assert all(np.any(v != w) for v, w in zip(maml.trainable_variables, before))
    maml.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded(BATCH[0]), maml(BATCH[0]), rtol=1e-5, atol=1e-6)


def test_an_image_that_cannot_be_halved_is_refused():
    with pytest.raises(ValueError, match=r"at least 16 by 16.*Received: shape=\(12"):
        resnet12(shape=(12, 84, 3))

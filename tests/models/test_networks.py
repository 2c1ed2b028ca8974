"""The reference networks match the papers."""

import keras
import numpy as np
import pytest
from helpers import classification, maml, regression

from maml_keras.models.networks import conv4, mlp

SCCE = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def test_mlp_is_the_network_of_the_sinusoid_experiment():
    model = mlp()
    shapes = [tuple(v.shape) for v in model.trainable_variables]
    assert shapes == [(1, 40), (40,), (40, 40), (40,), (40, 1), (1,)]
    kernels = np.concatenate(
        [v.numpy().ravel() for v in model.trainable_variables[::2]]
    )
    # Truncation at two deviations leaves 0.88 of the standard deviation.
    assert kernels.std() == pytest.approx(0.0088, rel=0.1)
    assert np.abs(kernels).max() <= 0.02
    assert all(not np.any(v) for v in model.trainable_variables[1::2])


def test_mlp_is_relu_inside_and_linear_at_the_end():
    model = mlp(hidden=[5, 5], outputs=2, inputs=3)
    activations = [layer.activation.__name__ for layer in model.layers]
    assert activations == ["relu", "relu", "linear"]
    assert (model.input_shape, model.output_shape) == ((None, 3), (None, 2))


@pytest.mark.parametrize(
    ("kwargs", "sizes", "parameters"),
    [
        # 9 * 64 + 64, three of 9 * 64 * 64 + 64, four of 2 * 64, and 65 * 5.
        ({}, [14, 7, 4, 2], 640 + 3 * 36928 + 512 + 325),
        (
            {"shape": (84, 84, 3), "filters": 32, "max_pool": True},
            [84, 42, 21, 10],
            # The last pooling gives 5 x 5.
            896 + 3 * 9248 + 256 + (25 * 32 + 1) * 5,
        ),
    ],
)
def test_conv4_has_the_papers_sizes(kwargs, sizes, parameters):
    model = conv4(**kwargs)
    convolutions = [x for x in model.layers if isinstance(x, keras.layers.Conv2D)]
    assert [layer.output.shape[1] for layer in convolutions] == sizes
    trainable = sum(v.numpy().size for v in model.trainable_variables)
    assert trainable == parameters
    assert model.output_shape == (None, 5)


def test_mlp_trains():
    model = maml(mlp(hidden=[4]), task_map="sequential")
    model.compile(keras.optimizers.Adam(0.01))
    batch = regression((1,), outputs=1)
    losses = model.fit(*batch, epochs=20, verbose=0).history["loss"]
    assert losses[-1] < losses[0]


@pytest.mark.slow
@pytest.mark.parametrize("max_pool", [False, True])
def test_conv4_trains(max_pool):
    model = maml(
        conv4(ways=3, shape=(16, 16, 1), filters=4, max_pool=max_pool), loss=SCCE
    )
    model.compile(keras.optimizers.Adam(0.01))
    batch = classification((16, 16, 1))
    losses = model.fit(*batch, epochs=8, verbose=0).history["loss"]
    assert losses[-1] < losses[0]

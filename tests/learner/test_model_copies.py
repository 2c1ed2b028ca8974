"""Independent copies of a model, and its twins in float64."""

import keras
import numpy as np
import pytest
from helpers import (
    FAMILIES,
    assert_identical,
    dense,
    family,
    maml,
    numpy_variables,
    task_of,
)

from maml_keras import warm_start, with_low_rank_adapters
from maml_keras.learner.model_copies import copy_of, twin_of


@pytest.mark.parametrize("name", FAMILIES)
def test_copy_computes_the_same_and_is_independent(name):
    model, batch = family(name)
    x = task_of(batch, 0)[0]["support_x"]
    copy = copy_of(model)
    assert type(copy) is type(model)
    np.testing.assert_array_equal(copy(x), model(x))
    before = numpy_variables(model)
    for variable in copy.trainable_variables:
        variable.assign_add(np.ones(variable.shape))
    assert_identical(before, numpy_variables(model))
    assert [v.trainable for v in copy.variables] == [
        v.trainable for v in model.variables
    ]


@pytest.mark.parametrize("name", FAMILIES)
def test_twin_computes_the_same_in_float64(name):
    model, batch = family(name)
    x = task_of(batch, 0)[0]["support_x"]
    twin = twin_of(model, "float64")
    assert {v.dtype for v in twin.trainable_variables} == {"float64"}
    assert twin(x).dtype == "float64"
    np.testing.assert_allclose(twin(x), model(x), rtol=1e-4, atol=1e-5)  # float32
    assert keras.config.floatx() == "float32"


def test_twin_of_mixed_precision_is_float64_throughout():
    model = keras.Sequential(
        [keras.Input([3]), keras.layers.Dense(2, dtype="mixed_float16")]
    )
    twin = twin_of(model, "float64")
    assert twin.layers[0].compute_dtype == "float64"


def test_twin_keeps_layers_of_whole_numbers():
    model = keras.Sequential(
        [
            keras.Input([3], dtype="int32"),
            keras.layers.Hashing(num_bins=5),
            keras.layers.Embedding(5, 2),
        ]
    )
    twin = twin_of(model, "float64")
    assert twin.layers[0].compute_dtype == model.layers[0].compute_dtype == "int64"
    assert twin.layers[1].compute_dtype == "float64"


def test_given_weights_are_used():
    model = dense()
    copy = copy_of(model, [np.full(v.shape, 0.5) for v in model.variables])
    assert all(np.all(v.numpy() == 0.5) for v in copy.variables)


def test_copy_keeps_names():
    model = dense()
    assert [layer.name for layer in copy_of(model).layers] == [
        layer.name for layer in model.layers
    ]


class NoConfig(keras.Model):
    def __init__(self, units):
        super().__init__()
        self.head = keras.layers.Dense(units)

    def build(self, shape):
        self.head.build(shape)

    def call(self, x):
        return self.head(x)


class ForgetsUnits(NoConfig):
    def __init__(self, units=1):
        super().__init__(units)

    def get_config(self):
        return {}


def test_class_without_config_is_refused_by_name():
    model = NoConfig(2)
    model.build([None, 3])
    with pytest.raises(
        ValueError, match="class NoConfig cannot be rebuilt.*get_config"
    ):
        copy_of(model)


def test_copy_of_another_shape_is_refused():
    model = ForgetsUnits(2)
    model.build([None, 3])
    with pytest.raises(ValueError, match="rebuilt from its configuration with other"):
        copy_of(model)


def after_scaling():
    """A network whose first layer was adapted to data with mean 5."""
    scaling = keras.layers.Normalization()
    scaling.adapt(np.random.default_rng(0).normal(5.0, 2.0, [200, 3]))
    return keras.Sequential([keras.Input([3]), scaling, keras.layers.Dense(2)])


def test_a_copy_normalises_by_the_statistics_of_the_layer():
    model, x = after_scaling(), np.full([4, 3], 6.0, "float32")
    np.testing.assert_array_equal(copy_of(model)(x), model(x))
    np.testing.assert_allclose(twin_of(model, "float64")(x), model(x), rtol=1e-5)
    # A layer with mean 0 and variance 1, its initial values, gives other outputs.
    fresh = keras.Sequential(
        [keras.Input([3]), keras.layers.Normalization(), keras.layers.Dense(2)]
    )
    assert not np.allclose(fresh.layers[0](x), model.layers[0](x), rtol=0.1)


def test_adapters_and_warm_starts_keep_the_statistics_of_the_layer(tmp_path):
    model, x = after_scaling(), np.full([4, 3], 6.0, "float32")
    adapters = with_low_rank_adapters(model)
    np.testing.assert_allclose(adapters(x), model(x), rtol=1e-5)  # float32
    path = maml(model).export(tmp_path / "export")
    fresh = keras.Sequential(
        [keras.Input([3]), keras.layers.Normalization(), keras.layers.Dense(2)]
    )
    warm_start(fresh, path)
    np.testing.assert_allclose(fresh(x), model(x), rtol=1e-5)

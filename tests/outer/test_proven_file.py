"""A saved model is loaded back before its file takes its name."""

import keras
import numpy as np
import pytest

from maml_keras.outer.proven_file import save_proven


@keras.saving.register_keras_serializable(package="test_proven_file")
class Forgetful(keras.layers.Dense):
    """A layer that does not read its kernel from the file."""

    def load_own_variables(self, store):
        super().load_own_variables(store)
        self.kernel.assign(0.0 * self.kernel)


class Unregistered(keras.layers.Dense):
    """A layer that Keras cannot find by its name."""


def model_with(layer):
    model = keras.Sequential([keras.Input([2]), layer(1)])
    model.compile("adam", "mse")
    model.fit(np.ones([4, 2]), np.ones([4, 1]), verbose=0)
    return model


def test_a_proven_file_holds_weights_and_optimizer(tmp_path):
    model = model_with(keras.layers.Dense)
    assert save_proven(model, tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    ours = [*model.variables, *model.optimizer.variables]
    for a, b in zip(ours, [*loaded.variables, *loaded.optimizer.variables]):
        np.testing.assert_array_equal(a, b)
    assert [p.name for p in tmp_path.iterdir()] == ["model.keras"]


def test_a_file_with_other_numbers_is_refused_and_the_one_before_stays(tmp_path):
    path = tmp_path / "model.keras"
    path.write_text("before")
    with pytest.raises(OSError, match="'.*kernel' has other values after loading"):
        save_proven(model_with(Forgetful), path)
    assert path.read_text() == "before"


def test_a_model_of_unregistered_classes_is_saved_with_a_warning(tmp_path, caplog):
    path = tmp_path / "model.keras"
    assert not save_proven(model_with(Unregistered), path)
    assert f"{path} holds a class that Keras cannot find" in caplog.text
    keras.saving.load_model(path, custom_objects={"Unregistered": Unregistered})


def test_a_model_with_a_lambda_is_saved_with_a_warning(tmp_path, caplog):
    path = tmp_path / "model.keras"
    double = keras.layers.Lambda(lambda x: 2.0 * x)
    assert not save_proven(keras.Sequential([keras.Input([2]), double]), path)
    assert f"{path} holds a Python lambda" in caplog.text
    keras.saving.load_model(path, safe_mode=False)

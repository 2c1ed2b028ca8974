"""Files with code in them are refused, as SECURITY.md promises."""

import json
import zipfile

import keras
import numpy as np
import pytest

import maml_keras as mk
from maml_keras.data import task_files

pytestmark = [
    pytest.mark.journey,
    pytest.mark.filterwarnings(
        "ignore:The object being serialized includes a `lambda`"
    ),
]


def with_a_lambda_layer():
    return keras.Sequential(
        [
            keras.Input([1]),
            keras.layers.Dense(2),
            keras.layers.Lambda(lambda x: x + 1),
            keras.layers.Dense(1),
        ]
    )


def maml(model=None, **options):
    inner = mk.InnerLoop("mse", mk.SGD(0.1), steps=1, **options)
    return mk.MAML(model or mk.models.mlp(hidden=[4]), inner)


@pytest.mark.parametrize("made", ["layer", "predicate"])
def test_python_code_in_a_file_is_refused_until_it_is_allowed(made, tmp_path):
    if made == "layer":
        learner = maml(with_a_lambda_layer())
    else:
        learner = maml(adapt=mk.satisfying(lambda v: v.shape.rank == 1))
    learner.save(tmp_path / "maml.keras")
    with pytest.raises((ValueError, TypeError), match="safe_mode=False"):
        keras.saving.load_model(tmp_path / "maml.keras")
    back = keras.saving.load_model(tmp_path / "maml.keras", safe_mode=False)
    assert len(back.trainable_variables) == len(learner.trainable_variables)


def test_python_code_in_an_export_is_refused(tmp_path):
    export = maml(with_a_lambda_layer()).export(tmp_path / "export")
    with pytest.raises(ValueError, match="safe_mode"):
        mk.to_keras(export)


def test_a_class_of_no_keras_package_is_refused(tmp_path):
    maml().save(tmp_path / "maml.keras")
    with zipfile.ZipFile(tmp_path / "maml.keras") as file:
        parts = {name: file.read(name) for name in file.namelist()}
    config = json.loads(parts["config.json"])
    rule = config["config"]["inner"]["config"]["rule"]
    rule.update(module="os", class_name="system", registered_name=None)
    rule["config"] = {"command": f"touch {tmp_path / 'ran'}"}
    parts["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile(tmp_path / "harmful.keras", "w") as file:
        for name, part in parts.items():
            file.writestr(name, part)
    with pytest.raises((ValueError, TypeError), match="Could not"):
        keras.saving.load_model(tmp_path / "harmful.keras")
    assert not (tmp_path / "ran").exists()


def test_pickles_in_a_task_file_are_refused(tmp_path):
    path = tmp_path / "task.npz"
    np.savez(path, x=np.array([{"a": 1}], dtype=object), y=np.zeros(1))
    with pytest.raises(ValueError, match=r"task\.npz"):
        task_files.read(path, shape=(1,), ways=None)

"""All reports of the version use the metadata."""

import pathlib
import sys

import keras
import tensorflow as tf

import maml_keras as mk
from maml_keras.backend.versions import version, versions

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PYPROJECT = pathlib.Path(__file__).parents[2] / "pyproject.toml"


def test_the_version_equals_the_version_in_pyproject():
    project = tomllib.loads(PYPROJECT.read_text("utf-8"))["project"]
    assert mk.__version__ == project["version"]


def test_versions_come_from_the_running_modules(monkeypatch):
    assert versions()["maml_keras"] == mk.__version__
    assert versions()["python"] == ".".join(map(str, sys.version_info[:3]))
    # The running module decides, because TensorFlow has several packages.
    monkeypatch.setattr(tf, "__version__", "2.99.0")
    monkeypatch.setattr(keras, "__version__", "3.99.0")
    assert versions()["tensorflow"] == "2.99.0"
    assert versions()["keras"] == "3.99.0"


def test_a_missing_package_is_reported_as_not_installed():
    assert version("tensorflow") == tf.__version__
    assert version("no-such-package") == "not installed"

"""The versions that cards, configurations and `maml_keras.__version__` report."""

from __future__ import annotations

import platform
from importlib import metadata

import keras
import tensorflow as tf


def version(package: str) -> str:
    """The version of an installed package, or `"not installed"`.

    The version comes from the package's metadata, so a source tree that is not
    installed has no version.

    Args:
        package: str, the name that `pip install` takes.

    Returns:
        The version, a str.

    >>> version("no-such-package")
    'not installed'
    """
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


__version__ = version("maml_keras")


def versions() -> dict[str, str]:
    """The versions of this library, TensorFlow, Keras and Python, by name."""
    return {
        "maml_keras": __version__,
        # TensorFlow has several packages, such as `tensorflow-cpu`, so ask the module.
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "python": platform.python_version(),
    }

"""Data that several journeys need."""

import os
import pathlib
import subprocess
import sys

import pytest

from maml_keras.data.omniglot_folders import holds_drawings


@pytest.fixture(scope="session")
def omniglot_folder(tmp_path_factory):
    """The folder of all of Omniglot.

    MAML_KERAS_OMNIGLOT names such a folder, as the author's archives unzip, or a folder
    with an `unpack.py` that writes it.
    """
    given = os.environ.get("MAML_KERAS_OMNIGLOT")
    if not given:
        pytest.skip("MAML_KERAS_OMNIGLOT is not set: no folder of all of Omniglot")
    if holds_drawings(given):
        return pathlib.Path(given)
    unpacked = tmp_path_factory.mktemp("omniglot")
    subprocess.run([sys.executable, f"{given}/unpack.py", unpacked], check=True)
    return unpacked

"""Data that several journeys need."""

import os
import pathlib
import subprocess
import sys

import filelock
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
    # With several workers, the parent is their common folder: the first one unpacks.
    base = tmp_path_factory.getbasetemp()
    unpacked = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "all"
    done = unpacked.with_suffix(".done")
    with filelock.FileLock(unpacked.with_suffix(".lock")):
        if not done.exists():
            subprocess.run([sys.executable, f"{given}/unpack.py", unpacked], check=True)
            done.touch()
    return unpacked

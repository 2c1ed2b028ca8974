"""A shell that knows nothing of this environment, for what a user does on day one."""

import os
import pathlib
import subprocess
import sys

# The programs of the Python from which this environment was made.
PYTHON = pathlib.Path(sys.base_prefix) / "bin"


def shell(line, folder, path):
    """What a line of bash prints; `path` is where its programs lie."""
    # What an installer needs to know of its network stays; what this suite set, not.
    ours = ("PYTHON", "PYTEST", "TF", "MAML", "VIRTUAL_ENV")
    variables = {k: v for k, v in os.environ.items() if not k.startswith(ours)}
    variables["PATH"] = f"{path}{os.pathsep}{os.defpath}"
    ended = subprocess.run(
        ["bash", "-c", line], cwd=folder, env=variables, capture_output=True, text=True
    )
    assert ended.returncode == 0, (
        f"{line}\n{ended.stdout[-2000:]}\n{ended.stderr[-2000:]}"
    )
    return ended.stdout

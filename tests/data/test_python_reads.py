"""A script that leaves a stream of examples on disk comes to its end."""

import subprocess
import sys

import numpy as np
import pytest

from maml_keras import data

SCRIPT = """
import sys
from maml_keras import data
pool = data.open_pool(sys.argv[1])
tasks = data.NWayKShot(pool, ways=5, shots=1, queries=15)
batches = iter(data.episodes(tasks, batch_size=4, seed=1))
for _ in range(10):
    next(batches)
print("all read")
"""


@pytest.mark.slow
def test_the_interpreter_ends_while_tensorflow_reads_ahead(tmp_path):
    # Large enough that reading goes on when the script is at its end.
    x = np.zeros([200, 84, 84, 3], np.uint8)
    data.to_disk(data.from_arrays(x, np.arange(200) % 10), tmp_path / "a.pool")
    command = [sys.executable, "-c", SCRIPT, str(tmp_path / "a.pool")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0
    assert done.stdout.strip() == "all read"

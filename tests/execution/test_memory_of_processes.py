"""`memory_estimate` against the memory that processes then really take."""

import pathlib
import subprocess
import sys

import pytest

WORKER = pathlib.Path(__file__).parents[1] / "memory_worker.py"
# A process is measured to about 5%.
TOLERANCE = 0.25


def asked(name, question):
    command = [sys.executable, str(WORKER), name, question]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return int(done.stdout)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="counts memory as Linux does")
@pytest.mark.parametrize(
    "name",
    ["sinusoid", "omniglot", "omniglot_5_steps", "images_of_84", "attention", "lstm"],
)
def test_the_estimate_is_near_what_a_process_takes(name):
    assert asked(name, "estimate") == pytest.approx(
        asked(name, "measure"), rel=TOLERANCE
    )

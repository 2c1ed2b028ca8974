"""The benchmarks for a GPU on a processor, and the model of many devices."""

import os
import pathlib
import subprocess
import sys

import pytest

from benchmarks import growth
from benchmarks.gpu import NO_GPU

pytestmark = pytest.mark.journey

ROOT = pathlib.Path(__file__).parents[2]


def benchmarks(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", "--device", "gpu", *arguments],
        cwd=ROOT,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "-1"},
        capture_output=True,
        text=True,
    )


def test_without_a_gpu_one_sentence_says_what_to_do():
    ended = benchmarks()
    assert (ended.returncode, ended.stderr.strip()) == (2, NO_GPU)


@pytest.mark.slow
def test_a_trial_runs_the_program_of_the_gpu_on_the_processor(tmp_path):
    path = tmp_path / "trial.md"
    ended = benchmarks(
        *["--trial", str(path), "--workloads", "W1-1", "--peers", "ours"],
        *["--rounds", "1", "--seconds", "0.05", "--cap", "300"],
    )
    assert ended.returncode == 0, ended.stderr
    text = path.read_text()
    assert "These are no figures of a GPU" in text
    assert "task_map=vectorized jit_compile=False" in text  # One of the forms tried.
    assert "failed" not in text


# Growth ------------------------------------------------------------------------------

LINK = growth.Link(latency=1.0, rate=100.0)
WORK = growth.Work(tasks=8, task=10.0, alone=80.0, fixed=3.0, size=400.0)


def test_a_ring_takes_two_messages_to_each_neighbour():
    # Three devices: 4 messages, and 2 * 2 / 3 of the bytes.
    assert LINK.ring(3, 300.0) == 4 * 1.0 + 400.0 / 100.0


def test_the_measured_messages_are_those_of_the_model():
    assert growth.WORKERS.ring(2, 0.0) == pytest.approx(2.6)
    assert growth.WORKERS.ring(2, 4 * 112_000) == pytest.approx(4.4)


def test_the_busiest_device_and_the_messages_limit_the_gain():
    # Three devices take 3, 3 and 2 tasks; rings of 4 + 16/3 and of 4 milliseconds.
    assert WORK.speedup(3, LINK) == pytest.approx(80 / (30 + 3 + 4 + 16 / 3 + 4))
    assert WORK.efficiency(3, LINK) == pytest.approx(80 / (80 + 3 + 4 + 16 / 3 + 4))
    assert WORK.worth(3, LINK) == 3 * 2  # 16.3 ms beside the tasks are two tasks.
    assert WORK.best(range(1, 20), LINK) == (4, WORK.speedup(4, LINK))


def test_the_page_has_the_numbers_of_the_model():
    page = (ROOT / "docs/howto/devices.md").read_text().replace(",", "")
    for line in growth.table().splitlines()[2:]:
        *cells, gpus = line.split("|")[3:-1]
        for cell in (*cells[1:], gpus):
            assert cell.strip().replace(",", "") in page

"""The lock on a run folder: one process at a time, and what is left of a dead one."""

import contextlib
import dataclasses
import json
import os
import platform
import re
import subprocess
import sys
import threading

import pytest
from typer.testing import CliRunner

from maml_keras.experiments import comparing, registry, run_lock, runs
from maml_keras_cli import app

SMALL = dataclasses.replace(
    registry.get("sinusoid"), iterations=2, epoch=2, evaluation_steps=1
)
# Holds the folder of its argument until its standard input ends.
HOLD = """
import sys
from maml_keras.experiments import run_lock
with run_lock.held(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextlib.contextmanager
def another_process(folder):
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.stdin.close()


@pytest.fixture(scope="module")
def held(tmp_path_factory):
    folder = tmp_path_factory.mktemp("held") / "run"
    with another_process(folder) as process:
        (folder / "config.toml").write_text("preset = 'sinusoid'\n")
        yield folder, f"process {process.pid} on {platform.node()}"


@pytest.mark.journey
@pytest.mark.parametrize("resume", [False, True])
def test_a_run_in_the_folder_of_another_process_names_that_process(held, resume):
    folder, holder = held
    before = sorted(folder.iterdir())
    with pytest.raises(BlockingIOError, match=f"is in use by {re.escape(holder)}"):
        runs.train(SMALL, folder, resume=resume, verbose=0)
    with pytest.raises(BlockingIOError, match=f"is in use by {re.escape(holder)}"):
        comparing.compare(SMALL, ["maml"], folder, verbose=0)
    assert sorted(folder.iterdir()) == before


@pytest.mark.journey
@pytest.mark.parametrize("command", ["train", "compare"])
@pytest.mark.parametrize("resume", [(), ("--resume",)])
def test_the_program_ends_with_a_line_if_the_folder_is_in_use(held, command, resume):
    folder, holder = held
    ended = CliRunner().invoke(
        app, [command, "sinusoid", "--out", str(folder), *resume]
    )
    assert ended.exit_code == 1
    (line,) = ended.output.splitlines()
    assert f"is in use by {holder} since" in line


@pytest.mark.slow
@pytest.mark.journey
def test_a_folder_is_free_once_the_process_has_died(tmp_path):
    with another_process(tmp_path / "run") as process:
        process.kill()
        process.wait()
    left = json.loads((tmp_path / "run" / run_lock.HOLDER).read_text())
    assert left["process"] == process.pid
    with run_lock.held(tmp_path / "run"):
        now = json.loads((tmp_path / "run" / run_lock.HOLDER).read_text())
        assert now["process"] == os.getpid()


def test_half_a_name_of_a_dead_process_does_not_block(tmp_path):
    (tmp_path / run_lock.HOLDER).write_text('{"process": 1')
    with run_lock.held(tmp_path):
        pass


def test_the_lock_of_another_machine_is_refused_with_what_to_do(tmp_path):
    holder = tmp_path / run_lock.HOLDER
    holder.write_text(
        json.dumps({"process": 7, "machine": "elsewhere", "since": "yesterday"})
    )
    with (
        pytest.raises(BlockingIOError, match="process 7 on elsewhere") as refused,
        run_lock.held(tmp_path),
    ):
        pass
    assert f"remove {holder} and try again" in str(refused.value)
    holder.unlink()
    with run_lock.held(tmp_path):
        pass


def test_another_thread_is_refused_and_the_same_thread_is_not(tmp_path):
    refused = []

    def try_to_hold():
        try:
            with run_lock.held(tmp_path):
                pass
        except BlockingIOError as error:
            refused.append(str(error))

    with run_lock.held(tmp_path), run_lock.held(tmp_path):
        thread = threading.Thread(target=try_to_hold)
        thread.start()
        thread.join()
        assert (tmp_path / run_lock.HOLDER).exists()
    assert f"process {os.getpid()}" in refused[0]
    thread = threading.Thread(target=try_to_hold)
    thread.start()
    thread.join()
    assert len(refused) == 1


def test_a_folder_that_stays_empty_is_removed_only_if_it_is_new(tmp_path):
    (tmp_path / "mine").mkdir()
    for name in ("new", "mine"):
        with run_lock.held(tmp_path / name):
            pass
    assert [p.name for p in tmp_path.iterdir()] == ["mine"]
    assert not any((tmp_path / "mine").iterdir())

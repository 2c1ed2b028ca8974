"""Runs the commands and code of the README, unchanged, in an empty environment."""

import pathlib
import re
import shutil
import subprocess
import time
import urllib.request

import numpy as np
import pytest
from bare import PYTHON, shell

ROOT = pathlib.Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"```console\n(.*?)```", README, flags=re.DOTALL)[1]
PLAIN = re.findall(r"```console\n(.*?)```", CONTRIBUTING, flags=re.DOTALL)[0]
*LINES, DEMO, SUITE = PLAIN.strip().splitlines()
CODE = "\n".join(re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL))

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """The folder of the programs, after the installation commands in a clone."""
    clone = tmp_path_factory.mktemp("clone")
    ignored = shutil.ignore_patterns(".git", ".venv", "runs", "*.egg-info", ".*_cache")
    shutil.copytree(ROOT, clone, dirs_exist_ok=True, ignore=ignored)
    for line in LINES:
        shell(line, clone, PYTHON)
    return clone / ".venv/bin"


def test_the_demo_command_runs(environment):
    printed = shell(DEMO, environment.parents[1], PYTHON)
    assert "MAML" in printed


@pytest.mark.timeout(3600)
def test_the_suite_command_runs(environment):
    printed = shell(SUITE, environment.parents[1], PYTHON)
    assert re.search(r"\d{4} passed", printed)


def test_code_and_commands_of_the_readme_run(environment, tmp_path):
    (tmp_path / "readme.py").write_text(CODE, encoding="utf-8")
    printed = shell("python readme.py", tmp_path, environment)
    assert "95% CI over 600 tasks" in printed
    *commands, tensorboard = COMMANDS.strip().splitlines()
    printed = [shell(command, tmp_path, environment) for command in commands]
    assert "95% CI over 600 tasks" in printed[0]
    x = np.linspace(-3, 3, 10, dtype="float32")[:, None]
    np.savez(tmp_path / "my_task.npz", x=x, y=2 * np.sin(x - 1))
    adapt = "maml-keras adapt runs/sinusoid --data my_task.npz --out adapted.keras"
    shell(adapt, tmp_path, environment)
    for written in ("maml.keras", "adapted.keras", "runs/sinusoid/export/card.json"):
        assert (tmp_path / written).exists()
    assert tensorboard.startswith("tensorboard --logdir ")
    served(tensorboard, tmp_path, environment)


def served(command, folder, path):
    """Checks that TensorBoard answers and shows the run."""
    server = subprocess.Popen(
        [path / "tensorboard", *command.split()[1:], "--port", "6123"],
        cwd=folder,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        for _ in range(60):
            time.sleep(1)
            try:
                url = "http://localhost:6123/data/runs"
                with urllib.request.urlopen(url, timeout=5) as answer:
                    found = answer.read().decode()
            except OSError:
                continue
            if "adaptation" in found:
                return
        raise AssertionError("TensorBoard did not show the run")
    finally:
        server.terminate()
        server.communicate()

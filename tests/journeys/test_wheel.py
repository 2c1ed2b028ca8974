"""Wheel and sdist hold the right files, and work without the repository."""

import pathlib
import re
import shutil
import tarfile
import zipfile

import bare
import pytest

ROOT = pathlib.Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
CODE = "\n".join(re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL))
SOURCES = {
    path.relative_to(ROOT).as_posix()
    for package in ("maml_keras", "maml_keras_cli")
    for path in (ROOT / package).rglob("*")
    if path.suffix in (".py", ".json") or path.name == "py.typed"
}
# The library is imported from its installation, not from the folder of the script.
WHERE = "import maml_keras, sys; assert maml_keras.__file__.startswith(sys.prefix)\n"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """A copy of the repository in which `make build` has run."""
    folder = tmp_path_factory.mktemp("clone")
    ignored = shutil.ignore_patterns(
        ".git", ".venv", "runs", "build", "dist", "*.egg-info", ".*_cache"
    )
    shutil.copytree(ROOT, folder, dirs_exist_ok=True, ignore=ignored)
    for line in (
        "python3 -m venv .venv",
        ".venv/bin/python -m pip install --quiet --upgrade pip",
        "touch .venv/.installed",  # A build needs none of the locked packages.
        "make build",
    ):
        bare.shell(line, folder, bare.PYTHON)
    return folder


def test_the_wheel_holds_the_library_and_nothing_else(clone):
    (path,) = clone.glob("dist/*.whl")
    with zipfile.ZipFile(path) as wheel:
        found = {n for n in wheel.namelist() if ".dist-info/" not in n}
    assert found == SOURCES
    assert "maml_keras/py.typed" in found


def test_the_sdist_holds_the_sources_and_no_tests(clone):
    (path,) = clone.glob("dist/*.tar.gz")
    with tarfile.open(path) as sdist:
        found = {n.partition("/")[2] for n in sdist.getnames()}
    assert found >= SOURCES | {"LICENSE", "README.md", "CHANGELOG.md", "pyproject.toml"}
    assert not any(name.startswith(("tests", "docs", "runs")) for name in found)


@pytest.mark.parametrize("source", ["dist/*.whl", "."], ids=["wheel", "repository"])
def test_the_readme_runs_in_an_empty_environment(source, clone, tmp_path):
    bare.shell("python3 -m venv environment", tmp_path, bare.PYTHON)
    path = tmp_path / "environment/bin"
    bare.shell(f"{path}/python -m pip install --quiet {source}", clone, bare.PYTHON)
    bare.shell("python -m pip check", tmp_path, path)
    (tmp_path / "readme.py").write_text(WHERE + CODE, encoding="utf-8")
    assert "95% CI over 600 tasks" in bare.shell("python readme.py", tmp_path, path)
    for written in ("maml.keras", "sinusoid/saved_model.pb"):
        assert (tmp_path / written).exists()
    printed = bare.shell("maml-keras --version", tmp_path, path)
    assert printed.startswith("maml-keras 0.")
    shutil.rmtree(tmp_path / "environment")

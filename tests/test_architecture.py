"""Imports go down the wings only, importing is cheap, examples in docstrings run."""

import ast
import doctest
import importlib
import importlib.util
import pathlib
import pkgutil
import subprocess
import sys
import time

import pytest

import maml_keras
import maml_keras_cli

ROOT = pathlib.Path(maml_keras.__file__).parent
PROGRAM = pathlib.Path(maml_keras_cli.__file__).parent
API_INDEX = ROOT.parent / "scripts" / "api_index.py"

# From the ground up: a wing may import the wings before it.
WINGS = [
    "backend",
    "data",
    "learner",
    "models",
    "inner",
    "execution",
    "export",
    "outer",
    "recipes",
    "evaluation",
    "monitoring",
    "experiments",
]
FILES = [path for path in sorted(ROOT.rglob("*.py")) if path.parent != ROOT]
MODULES = sorted(
    name
    for root in (ROOT, PROGRAM)
    for _, name, _ in pkgutil.walk_packages([str(root)], f"{root.name}.")
    if not name.endswith("__main__")
)


def name_of(path):
    """A file's dotted name below `maml_keras`, such as `inner.loop`."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def imports(path):
    """Dotted names below `maml_keras` that a file imports, in functions too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            if node.module == "maml_keras":
                found |= {alias.name for alias in node.names}
            elif (node.module or "").startswith("maml_keras."):
                module = node.module.removeprefix("maml_keras.")
                found |= {_resolved(module, alias.name) for alias in node.names}
        if isinstance(node, ast.Import):
            names = (alias.name for alias in node.names)
            found |= {
                n.removeprefix("maml_keras.") for n in names if "maml_keras." in n
            }
    return found


def _resolved(module, name):
    """`module.name` where that is a module, else `module`."""
    path = ROOT.joinpath(*module.split("."), name)
    is_module = path.with_suffix(".py").exists() or path.is_dir()
    return f"{module}.{name}" if is_module else module


def test_a_wing_is_a_folder_and_every_folder_is_a_wing():
    folders = {path.name for path in ROOT.iterdir() if (path / "__init__.py").exists()}
    assert folders == set(WINGS) - {"recipes"}
    flat = {path.name for path in ROOT.glob("*.py")}
    assert flat == {"__init__.py", "recipes.py"}


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_imports_go_down_only(path):
    wing = path.relative_to(ROOT).parts[0]
    allowed = set(WINGS[: WINGS.index(wing) + 1])
    assert {name.split(".")[0] for name in imports(path)} <= allowed


def test_recipes_import_downwards_only():
    allowed = set(WINGS[: WINGS.index("recipes")])
    assert {n.split(".")[0] for n in imports(ROOT / "recipes.py")} <= allowed


@pytest.mark.parametrize("wing", [wing for wing in WINGS if wing != "recipes"])
def test_a_wing_has_no_circle_inside(wing):
    graph = {name_of(p): imports(p) for p in FILES if wing in p.parts[-3:]}
    done, open_ = set(), []

    def visit(name):
        assert name not in open_, f"a circle: {[*open_, name]}"
        if name in done or name not in graph:
            return
        open_.append(name)
        for other in graph[name]:
            visit(other)
        done.add(open_.pop())

    for name in graph:
        visit(name)


@pytest.mark.parametrize("path", sorted(ROOT.rglob("__init__.py")), ids=name_of)
def test_an_init_says_what_lives_there_and_defines_nothing(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    said = ast.get_docstring(tree)
    assert said is not None
    assert said.endswith(".")
    kinds = (ast.ImportFrom, ast.Assign, ast.Expr)
    assert all(isinstance(node, kinds) for node in tree.body)
    package = ".".join(["maml_keras", *path.relative_to(ROOT).parent.parts])
    module = importlib.import_module(package)
    for name in getattr(module, "__all__", []):
        assert hasattr(module, name)


@pytest.mark.parametrize(
    "path", sorted((ROOT / "data").glob("*.py")), ids=lambda p: p.stem
)
def test_data_knows_nothing_of_learning(path):
    others = {name for name in imports(path) if name.split(".")[0] != "data"}
    assert others <= {"backend.progress", "backend.documents"}


def test_the_program_imports_the_library_only_when_a_command_runs():
    for path in PROGRAM.glob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            imported = (
                [a.name for a in node.names] if isinstance(node, ast.Import) else []
            )
            if isinstance(node, ast.ImportFrom):
                imported.append(node.module)
            roots = {name.split(".")[0] for name in imported}
            assert not roots & {"maml_keras", "tensorflow", "keras", "numpy"}, path


def test_the_library_does_not_know_the_program():
    for path in ROOT.rglob("*.py"):
        assert "import maml_keras_cli" not in path.read_text(encoding="utf-8")
        assert "from maml_keras_cli" not in path.read_text(encoding="utf-8")


IMPORT = """
import sys, time
import tensorflow
before, start = set(sys.modules), time.process_time()
import maml_keras
print(time.process_time() - start)
print(*sorted(set(sys.modules) - before))
"""


# Processor seconds beside the three or more of TensorFlow itself, on a slow machine.
LONGEST_IMPORT = 0.5


def test_importing_is_cheap_and_brings_no_optional_package():
    seconds = []
    for _ in range(3):
        out = subprocess.run(
            [sys.executable, "-c", IMPORT], capture_output=True, text=True, check=True
        ).stdout.splitlines()
        seconds.append(float(out[0]))
        brought = {name.split(".")[0] for name in out[1].split()}
        assert not brought & {
            "tensorflow_datasets",
            "matplotlib",
            "tensorboard",
            "typer",
        }
        if min(seconds) < LONGEST_IMPORT:
            break
        time.sleep(1)  # Another process may be at work.
    assert min(seconds) < LONGEST_IMPORT


@pytest.mark.journey
@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_run(name, monkeypatch):
    # Examples read the exports that the repository holds.
    monkeypatch.chdir(ROOT.parent)
    # On a busy machine an example may take so long that its progress bar shows itself.
    monkeypatch.setattr(maml_keras.backend.progress, "SECONDS", float("inf"))
    module = importlib.import_module(name)
    # Examples of one file know what the README imports.
    names = {"keras": __import__("keras"), "np": __import__("numpy")}
    names["tf"] = __import__("tensorflow")
    failed, _ = doctest.testmod(module, extraglobs=names)
    assert failed == 0


# Why a public name has no example that runs with every test.
WITHOUT_EXAMPLE = {
    "mk.experiments.compare": "trains at least two networks",
    "mk.experiments.evaluate": "adapts a trained network to new tasks, for seconds",
    "mk.experiments.joint_pretraining": "trains, and adapts to 100 validation tasks",
    "mk.experiments.linear_probe": "trains, and adapts to 100 validation tasks",
    "mk.experiments.random_initialisation": "adapts to 100 validation tasks",
    "mk.experiments.train": "trains a network",
    "mk.experiments.tune": "trains several networks",
    "maml_keras.export.measure": "takes seconds, and other numbers on each machine",
}


def test_every_public_name_has_an_example_that_runs():
    parser = doctest.DocTestParser()
    without = set()
    spec = importlib.util.spec_from_file_location("api_index", API_INDEX)
    api_index = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(api_index)
    for wing in api_index.names().values():
        for name, value in wing.items():
            examples = parser.get_examples(value.__doc__)
            skipped = [e for e in examples if e.options.get(doctest.SKIP)]
            if not examples or skipped:
                without.add(name)
    assert without == set(WITHOUT_EXAMPLE)

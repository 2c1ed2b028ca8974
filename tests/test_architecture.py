"""Imports go one way only, importing is cheap, and examples in docstrings run."""

import ast
import doctest
import importlib
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

# From the bottom to the top: a module may import those before it.
ORDER = [
    "progress",
    "step_report",
    "scoped_override",
    "as_written",
    "exact_moments",
    "written_derivative",
    "normalisation",
    "batch_norm",
    "per_step_batch_norm",
    "policies",
    "recurrence",
    "attention",
    "einsum_dense",
    "layer_norm",
    "losses",
    "metrics",
    "selectors",
    "rules",
    "clipping",
    "learned_rules",
    "model_checks",
    "moving_statistics",
    "learner",
    "starts",
    "survey",
    "chained",
    "rematerialized",
    "inner",
    "objectives",
    "meta_gradients",
    "reptile",
    "implicit",
    "task_maps",
    "auto",
    "episode",
    "declared",
    "scaling",
    "admission",
    "copies",
    "export_checks",
    "export_signature",
    "export_snapshot",
    "export_module",
    "export",
    "fused_steps",
    "graph_passes",
    "episodic_model",
    "maml",
    "gradient_check",
    "evaluation",
    "contexts",
    "models",
    "low_rank",
    "low_rank_attention",
    "adapters",
    "recipes",
]
# Every other module is above all of these, and may see the data as well.
MODULES = sorted(
    name
    for root in (ROOT, PROGRAM)
    for _, name, _ in pkgutil.walk_packages([str(root)], f"{root.name}.")
    if not name.endswith("__main__")
)


def imports(path):
    """Names under `maml_keras.` that a file imports, at its top or in functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(
            "maml_keras"
        ):
            assert node.level == 0
            if node.module == "maml_keras":
                found |= {alias.name for alias in node.names}
            else:
                found.add(node.module.removeprefix("maml_keras."))
        if isinstance(node, ast.Import):
            found |= {
                alias.name.removeprefix("maml_keras.")
                for alias in node.names
                if alias.name.startswith("maml_keras")
            }
    return found


def test_every_core_module_exists():
    assert set(ORDER) <= {path.stem for path in ROOT.glob("*.py")}


@pytest.mark.parametrize("name", ORDER)
def test_imports_go_down_only(name):
    below = set(ORDER[: ORDER.index(name)])
    assert imports(ROOT / f"{name}.py") <= below


@pytest.mark.parametrize(
    "path", sorted((ROOT / "data").glob("*.py")), ids=lambda p: p.stem
)
def test_data_knows_nothing_of_learning(path):
    others = {name for name in imports(path) if name.split(".")[0] != "data"}
    assert others <= {"progress"}


def test_there_is_no_relative_import():
    for path in [*ROOT.rglob("*.py"), *PROGRAM.rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                assert node.level == 0, path


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
        if min(seconds) < 0.3:
            break
        time.sleep(1)  # Another process may be at work.
    assert min(seconds) < 0.3


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_run(name):
    module = importlib.import_module(name)
    # Examples of one file know what the README imports.
    names = {"keras": __import__("keras"), "np": __import__("numpy")}
    names["tf"] = __import__("tensorflow")
    failed, _ = doctest.testmod(module, extraglobs=names)
    assert failed == 0


def test_docstrings_hold_examples_at_all():
    finder = doctest.DocTestFinder()
    modules = [importlib.import_module(name) for name in MODULES]
    examples = [len(t.examples) for m in modules for t in finder.find(m)]
    assert sum(n > 0 for n in examples) >= 20

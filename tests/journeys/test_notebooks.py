"""The example notebooks run, and their outputs and pages are those of their code."""

import importlib.util
import pathlib
import re

import nbformat
import pytest

pytestmark = pytest.mark.journey

ROOT = pathlib.Path(__file__).parents[2]
NAMES = ["export", "quick_start", "your_own_data"]


def notebooks():
    """The script that executes the notebooks and writes their pages."""
    path = ROOT / "scripts/notebooks.py"
    spec = importlib.util.spec_from_file_location("notebooks", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SCRIPT = notebooks()


def path_of(name):
    return ROOT / f"examples/notebooks/{name}.ipynb"


def committed(name):
    return nbformat.read(path_of(name), as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def kinds(notebook):
    """For each code cell the kinds of its outputs, in order."""
    return [
        [(o.output_type, o.get("name"), *sorted(o.get("data", {}))) for o in c.outputs]
        for c in code_cells(notebook)
    ]


def test_every_notebook_is_tested():
    assert [path.stem for path in SCRIPT.NOTEBOOKS] == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_outputs_are_whole_and_say_nothing_of_the_machine(name):
    notebook = committed(name)
    nbformat.validate(notebook)
    assert notebook.metadata == SCRIPT.METADATA
    cells = code_cells(notebook)
    assert [c.execution_count for c in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert {o.output_type for o in outputs} <= {"stream", "display_data"}
    assert {o.name for o in outputs if o.output_type == "stream"} == {"stdout"}
    assert any("image/png" in o.get("data", {}) for o in outputs)
    text = "\n".join(o.text for o in outputs if o.output_type == "stream")
    assert not re.search(r"(?<!\w)(/[\w.-]+/|[A-Z]:\\)", text), "a path of a machine"
    assert not re.search(r"WARNING|INFO:|tensorflow:", text)


@pytest.mark.parametrize("name", NAMES)
def test_the_page_is_that_of_the_notebook(name):
    files = SCRIPT.page(path_of(name))
    there = {path.name for path in SCRIPT.PAGES.glob(f"{name}[._]*")}
    assert there == set(files), "run `make notebooks`"
    for file, content in files.items():
        assert (SCRIPT.PAGES / file).read_bytes() == content, "run `make notebooks`"


@pytest.mark.parametrize("name", NAMES)
def test_links_of_the_notebook_lead_somewhere(name):
    text = "\n".join(c.source for c in committed(name).cells if c.cell_type != "code")
    links = re.findall(r"\]\(([^)\s]+)\)", text)
    assert links
    for link in links:
        assert (path_of(name).parent / link).exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_notebook_runs(name):
    # A cell that fails is an error here. Numbers differ a little between machines.
    assert kinds(SCRIPT.executed(path_of(name))) == kinds(committed(name))

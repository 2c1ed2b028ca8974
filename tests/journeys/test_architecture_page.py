"""The page about the architecture names existing files and functions."""

import ast
import importlib.util
import pathlib
import re

import pytest

pytestmark = pytest.mark.journey

ROOT = pathlib.Path(__file__).parents[2]
PAGE = (ROOT / "docs/architecture.md").read_text("utf-8")


def drawer():
    path = ROOT / "scripts/draw_architecture.py"
    spec = importlib.util.spec_from_file_location("draw_architecture", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_picture_and_the_list_of_files_match_the_code():
    # `python scripts/draw_architecture.py` makes both again.
    made = drawer()
    house = made.wings()
    assert made.PICTURE.read_text("utf-8") == made.picture(house)
    assert made.LIST.read_text("utf-8") == made.listing(house)


def test_the_picture_has_every_file_and_no_arrow_upwards():
    house = drawer().wings()
    listed = {path for wing in house for path in wing.files}
    there = {*(ROOT / "maml_keras").rglob("*.py"), *ROOT.glob("maml_keras_cli/*.py")}
    assert there - listed == {ROOT / "maml_keras/__init__.py"}
    below = set()
    for wing in house:
        assert wing.imports <= below
        below.add(wing.name)
    assert house[-1].imports  # Imports inside the functions of a command count, too.


def test_every_path_on_the_page_exists():
    paths = re.findall(r"`([\w/]+\.py)`", PAGE)
    assert len(paths) > 60
    for path in paths:
        places = [ROOT / path, ROOT / "maml_keras" / path]
        assert any(place.exists() for place in places), path


def test_functions_are_defined_in_the_file_of_their_row():
    """If a row names one file, the file defines the name in code that follows."""
    found = 0
    for line in PAGE.splitlines():
        row = re.match(r"\|[^`]*`([\w/]+\.py)`[^`]*`([A-Za-z_][\w.]*)`", line)
        if row is None or ".py" in row[2]:
            continue
        source = (ROOT / "maml_keras" / row[1]).read_text("utf-8")
        defined = {
            node.name
            for node in ast.walk(ast.parse(source))
            if isinstance(node, ast.ClassDef | ast.FunctionDef)
        }
        assert set(row[2].split(".")) <= defined, line
        found += 1
    assert found >= 25

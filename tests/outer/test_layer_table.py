"""Every layer that Keras exports is in the table of docs/exactness.md."""

import inspect
import json
import runpy
import sys
from pathlib import Path

import keras
import pytest

ROOT = Path(__file__).parents[2]
ROWS = json.loads((ROOT / "docs" / "layers.json").read_text())
EXPORTED = {
    name: value
    for name in dir(keras.layers)
    if inspect.isclass(value := getattr(keras.layers, name))
}


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    yield runpy.run_path(str(ROOT / "scripts" / "layer_table.py"))
    sys.modules.pop("layer_cases", None)


def test_every_exported_layer_is_in_the_table():
    # A layer has several names, such as AvgPool1D and AveragePooling1D.
    proven_or_refused = {EXPORTED.get(row["layer"]) for row in ROWS}
    missing = [n for n, layer in EXPORTED.items() if layer not in proven_or_refused]
    assert not missing  # A new Keras: add a case to scripts/layer_cases.py.


def test_nothing_is_silent():
    for row in ROWS:
        if "refused" in row:
            assert len(row["refused"]) > 20, row
            continue
        assert row["error"] <= {"float64": 1e-6, "float32": 1e-2}[row["dtype"]], row
        assert 0 < row["decided"] <= row["variables"], row
        # Two tasks that run as one, beside a loop; None where `auto` loops.
        rounding = {"float64": 1e-12, "float32": 1e-4}[row["dtype"]]
        assert (row["task_axis"] or 0.0) <= rounding, row


def test_every_case_is_in_the_data(script):
    measured = {(row["layer"], row["mode"]) for row in ROWS}
    assert {case[:2] for case in script["cases"]()} <= measured


def test_the_page_shows_the_data(script):
    page = (ROOT / "docs" / "exactness.md").read_text()
    shown = page.split(script["BEGIN"])[1].split(script["END"])[0]
    assert shown.strip() == script["table"](ROWS).strip()


# One of each kind: exact by what the library does, refused, on inputs, in float32.
QUICK = [
    ("Resizing", "bicubic, antialias"),
    ("RandomHue", "behind weights"),
    ("BatchNormalization", "renorm"),
]


def assert_as_recorded(script, case):
    row = script["measured"](case)
    recorded = next(r for r in ROWS if (r["layer"], r["mode"]) == case[:2])
    assert row.keys() == recorded.keys()
    if "refused" in row:
        # The rest may hold numbers of the machine.
        assert row["refused"][:60] == recorded["refused"][:60]
    else:
        assert row["dtype"] == recorded["dtype"]


@pytest.mark.parametrize(("layer", "mode"), QUICK)
def test_some_cases_come_out_as_recorded(script, layer, mode):
    case = next(c for c in script["cases"]() if c[:2] == (layer, mode))
    assert_as_recorded(script, case)


@pytest.mark.slow
@pytest.mark.timeout(5400)
def test_all_cases_come_out_as_recorded(script):
    for case in script["cases"]():
        assert_as_recorded(script, case)
        keras.utils.clear_session()

"""The latency of an export is measured without this library."""

import pathlib

import pytest

import maml_keras as mk
from maml_keras.export import latency
from maml_keras.export.latency import measure, timed

pytestmark = [pytest.mark.journey, pytest.mark.usefixtures("tasks_in_a_loop")]

FOLDER = pathlib.Path(__file__).parents[2] / "saved_models"


def test_timings_leave_the_first_call_out():
    calls = []
    found = timed(lambda: calls.append(1))
    assert found["calls"] == len(calls) - 1
    assert found["median_ms"] <= found["p95_ms"]


def test_latency_is_measured_without_this_library(capsys, monkeypatch):
    monkeypatch.setattr("maml_keras.backend.progress.SECONDS", 0.0)
    found = measure(FOLDER / "sinusoid", steps=3, queries=10, verbose=1)
    assert "4/4" in capsys.readouterr().out  # Loading and three timings.
    assert [t["what"] for t in found["timings"]] == [
        "adapt, 3 steps on 10 examples",
        "predict 1 example",
        "predict 10 examples",
    ]
    for timing in found["timings"]:
        assert 0 < timing["median_ms"] <= timing["p95_ms"]
        assert timing["calls"] >= 20
    assert "core" in found["machine"]
    card = mk.model_card(FOLDER / "sinusoid", latency=False)
    timed_card = type(card)(**{**vars(card), "latency": found})
    assert "adapt, 3 steps on 10 examples" in str(timed_card)
    assert "95th percentile of" in timed_card.html()


def test_timing_an_export_that_does_not_run_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(latency, "PROGRAM", "raise SystemExit('no file at all')")
    with pytest.raises(ValueError, match="to be timed.*no file at all.*--no-latency"):
        measure(tmp_path, steps=1)

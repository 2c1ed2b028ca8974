"""Every example runs in small form and does what it says."""

import importlib.util
import pathlib

import numpy as np
import pytest

EXAMPLES = pathlib.Path(__file__).parents[1] / "examples"


def load(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_demo_trains_compares_plots_and_exports(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    out = tmp_path / "demo"
    results = load("demo").main(
        ["--iterations", "3000", "--tasks", "40", "--out", str(out)]
    )
    assert set(results) == {"MAML", "pretrained", "random"}
    # At this length MAML is near 1 after ten steps, and pretraining above 2.
    assert results["MAML"].mean < results["pretrained"].mean
    for name in ("adaptation.png", "fits.png", "export/saved_model.pb", "maml.keras"):
        assert (out / name).exists()
    assert "mean squared error on 40 new tasks" in capsys.readouterr().out


def test_exactness_prints_the_fault_and_that_it_is_gone(capsys):
    errors = load("exactness").main()
    for layer in ("BatchNormalization", "LayerNormalization", "GroupNormalization"):
        assert errors[layer][0] > 1e-2
    assert np.all([here < 1e-7 for _, here in errors.values()])
    assert errors["none"][0] < 1e-7
    assert "| BatchNormalization" in capsys.readouterr().out

"""Bars appear if work takes long, show progress and values, and can be silenced."""

import helpers
import keras
import numpy as np
import pytest
import tensorflow as tf

import maml_keras as mk
from maml_keras.backend.progress import Bar
from maml_keras.data.tfds import collect


class Clock:
    """A clock that advances by `step` seconds at each call."""

    def __init__(self, step):
        self.now, self.step = 0.0, step

    def __call__(self):
        self.now += self.step
        return self.now


def test_short_work_shows_no_bar(capsys):
    bar = Bar(10, unit="image", clock=Clock(0.1))
    for done in range(1, 11):
        bar.update(done)
    assert capsys.readouterr().out == ""


def test_long_work_shows_a_bar_and_ends_its_line(capsys):
    bar = Bar(10, unit="image", clock=Clock(0.5))
    shown = []
    for done in range(1, 11):
        bar.update(done, {"error": 0.25})
        shown.append(bar.shown)
    assert shown == [False] * 3 + [True] * 7
    out = capsys.readouterr().out
    assert "10/10" in out
    assert "error: 0.2500" in out
    assert out.endswith("\n")


def test_a_bar_clears_the_line_that_it_takes(capsys, monkeypatch):
    for on_terminal, cleared in ((True, True), (False, False)):
        monkeypatch.setattr("sys.stdout.isatty", lambda yes=on_terminal: yes)
        Bar(2, unit="task", clock=Clock(9.0)).update(1)
        assert ("\x1b[K" in capsys.readouterr().out) is cleared


def test_the_bar_shows_the_latest_value_and_not_the_mean(capsys):
    bar = Bar(2, unit="variable", clock=Clock(9.0))
    bar.update(1, {"error": 1.0})
    bar.update(2, {"error": 3.0})
    assert "error: 3.0000" in capsys.readouterr().out


def test_a_line_ends_if_less_than_the_total_was_done(capsys):
    bar = Bar(10, unit="task", clock=Clock(9.0))
    bar.update(6)
    assert not capsys.readouterr().out.endswith("\n")
    bar.finish(6)
    out = capsys.readouterr().out
    assert "6/6" in out
    assert out.endswith("\n")


def test_a_line_ends_if_the_total_is_unknown(capsys):
    bar = Bar(None, unit="image", clock=Clock(9.0))
    bar.update(3)
    assert not capsys.readouterr().out.endswith("\n")
    bar.finish(3)
    assert capsys.readouterr().out.endswith("\n")


def test_verbose_zero_is_silent(capsys):
    bar = Bar(2, unit="image", verbose=0, clock=Clock(9.0))
    bar.update(1)
    bar.update(2, {"error": 1.0})
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("verbose", [0, 1])
def test_check_meta_gradient_has_a_bar(verbose, at_once, capsys):
    maml = mk.MAML(helpers.dense(), mk.InnerLoop("mse", mk.SGD(0.1)))
    mk.check_meta_gradient(maml, helpers.regression(), tolerance=1, verbose=verbose)
    out = capsys.readouterr().out
    assert ("4/4" in out) == ("largest_error" in out) == bool(verbose)


def test_the_bar_of_a_trace_shows_its_result_and_the_available_tasks(at_once, capsys):
    task, query_y = helpers.regression(tasks=4)
    task["support_y"][0] *= 1e6  # One task diverges, but its loss stays finite.
    maml = mk.MAML(helpers.dense(), mk.InnerLoop("mse", mk.SGD(0.1)))
    trace = mk.trace_inner_loop(maml, [(task, query_y)] * 2, num_tasks=600, verbose=1)
    out = capsys.readouterr().out
    assert "4/8" in out
    assert "/600" not in out
    assert f"{trace.query().mean:.4f}" in out
    assert out.count("\n") == 1


@pytest.mark.parametrize("verbose", [0, 1])
def test_reading_a_folder_of_images_has_a_bar(verbose, at_once, capsys, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for i in range(2):
            picture = np.full([4, 4, 3], 50 * i, np.uint8)
            keras.utils.save_img(tmp_path / name / f"{i}.png", picture)
    mk.data.from_folder(tmp_path, verbose=verbose)
    assert ("4/4" in capsys.readouterr().out) == bool(verbose)


@pytest.mark.parametrize("verbose", [0, 1])
def test_an_export_and_a_conversion_have_bars(verbose, at_once, capsys, tmp_path):
    maml = mk.MAML(helpers.dense(), mk.InnerLoop("mse", mk.SGD(0.1)))
    maml.export(tmp_path / "export", verbose=verbose)
    assert ("8/8" in capsys.readouterr().out) == bool(verbose)
    mk.convert(helpers.dense(), tmp_path / "network.tflite", verbose=verbose)
    assert ("2/2" in capsys.readouterr().out) == bool(verbose)


@pytest.mark.parametrize("verbose", [0, 1])
def test_bars_of_a_download_can_be_silenced(verbose, monkeypatch):
    tfds = pytest.importorskip("tensorflow_datasets")
    from tensorflow_datasets.core.utils import tqdm_utils

    seen = []

    class Builder:
        data_dir = "nowhere"

        def download_and_prepare(self):
            seen.append(type(tqdm_utils.tqdm(total=1, disable=True)).__name__)
            raise OSError("no network")

    monkeypatch.setattr(tfds, "builder", lambda *args, **kwargs: Builder())
    with pytest.raises(FileNotFoundError, match="no network"):
        mk.data.from_tfds("cifar100", download=True, verbose=verbose)
    assert (seen == ["EmptyTqdm"]) == (not verbose)
    assert type(tqdm_utils.tqdm(total=1, disable=True)).__name__ != "EmptyTqdm"


@pytest.mark.parametrize("verbose", [0, 1])
def test_collecting_a_data_set_has_a_bar(verbose, at_once, capsys):
    pairs = tf.data.Dataset.from_tensor_slices((np.arange(300), np.arange(300)))
    assert len(collect(pairs, verbose=verbose)[0]) == 300
    assert ("300/300" in capsys.readouterr().out) == bool(verbose)

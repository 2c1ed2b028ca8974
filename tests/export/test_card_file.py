"""A card with wrong entries is named in an error or shown; it harms no terminal."""

import copy
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import pytest
from typer.testing import CliRunner

from maml_keras.export import card as card_module
from maml_keras.export import card_file, latency, reading
from maml_keras.export.card import model_card
from maml_keras_cli import app

FOLDER = pathlib.Path(__file__).parents[2] / "saved_models"
CONTENT = json.loads((FOLDER / "omniglot" / "card.json").read_text(encoding="utf-8"))


@pytest.fixture
def export(tmp_path, monkeypatch):
    """A folder that looks like an export; its SavedModel is never loaded."""
    monkeypatch.setattr(card_module, "_adapting", lambda path: 7)
    (tmp_path / "saved_model.pb").write_bytes(b"")

    def write(content, cut=None):
        text = json.dumps(content)[:cut]
        (tmp_path / "card.json").write_text(text, encoding="utf-8")
        return tmp_path

    return write


def places(value, at=()):
    """The way to every entry of nested dicts and lists."""
    yield at
    entries = value.items() if isinstance(value, dict) else ()
    if isinstance(value, list):
        entries = [*enumerate(value[:1]), *([(-1, value[-1])] if value else [])]
    for key, entry in entries:
        yield from places(entry, (*at, key))


def replaced(at, value):
    changed = copy.deepcopy(CONTENT)
    if not at:
        return value
    inside = changed
    for key in at[:-1]:
        inside = inside[key]
    inside[at[-1]] = value
    return changed


# The tensors of all functions have one form: two functions stand for all of them.
PLACES = [
    at
    for at in places(CONTENT)
    if at[:1] != ("functions",) or at[1:2] in [(), ("serve",), ("adapt",)]
]


@pytest.mark.parametrize(
    "value", [None, True, -7, 0.5, float("nan"), 1e300, "x", [], ["x"], {}, {"x": 1}]
)
def test_a_card_with_a_wrong_entry_is_shown_or_named(export, value):
    for at in PLACES:
        folder = export(replaced(at, value))
        message = ""
        try:
            shown = model_card(folder, latency=False)
            message = str(shown) and shown.html() and f"{folder / 'card.json'} must "
        except ValueError as error:
            message = str(error)
        assert message.startswith(f"{folder / 'card.json'} must "), at


@pytest.mark.parametrize("cut", [0, 1, 40, 900])
def test_a_truncated_card_is_named(export, cut):
    folder = export(CONTENT, cut)
    for read in (card_file.read, lambda path: model_card(path, latency=False)):
        with pytest.raises(ValueError, match="card.json cannot be read as JSON"):
            read(folder)


def test_a_network_is_not_rebuilt_from_a_card_without_its_training(export):
    folder = export({"inner_loop": {}})
    with pytest.raises(ValueError, match=r"without inner_loop.steps, batch_norm"):
        card_file.read_complete(folder)


def test_no_escape_of_a_card_reaches_the_terminal(export):
    wild = "\x1b]0;title\x07\x9b31m\u202e\ud800"
    changed = copy.deepcopy(CONTENT)
    for at in places(CONTENT):
        inside = changed
        for key in at[:-1]:
            inside = inside[key]
        if at and isinstance(inside[at[-1]], str):
            inside[at[-1]] = wild
    changed["versions"][wild] = wild
    folder = export(changed)
    (folder / "a\x1b[2Jb").write_text("")
    shown = model_card(folder, latency=False)
    for text in (str(shown), shown.html()):
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e\ud800]", text)
        assert r"\x1b" in text


@pytest.mark.parametrize("steps", [10**9, -5, 0])
def test_the_timing_of_a_card_with_absurd_numbers_is_bounded(
    export, monkeypatch, steps
):
    asked = {}
    monkeypatch.setattr(latency, "measure", lambda path, **how: asked.update(how))
    changed = replaced(("evaluation", "queries_per_task"), 10**9)
    changed["evaluation"]["steps"][-1] = steps
    model_card(export(changed), latency=True)
    assert 1 <= asked["steps"] <= 1_000
    assert 1 <= asked["queries"] <= 1_000


def test_a_timing_without_end_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(latency, "PROGRAM", "import time; time.sleep(600)")
    monkeypatch.setattr(latency, "LIMIT", 0.5)
    with pytest.raises(ValueError, match="timed within 0 seconds.*--no-latency"):
        latency.measure(tmp_path, steps=1)


def test_slow_calls_are_timed_a_few_times_only(monkeypatch):
    monkeypatch.setattr(latency, "MOST_SECONDS", 0.1)
    monkeypatch.setattr(latency, "SECONDS", 0.1)
    assert latency.timed(lambda: time.sleep(0.06))["calls"] < 4


def test_an_error_of_the_program_ends_the_timing(tmp_path, monkeypatch):
    started = []

    class Watched(subprocess.Popen):
        def __init__(self, *args, **options):
            super().__init__(*args, **options)
            started.append(self)

    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess, "Popen", Watched)
    monkeypatch.setattr(
        latency,
        "PROGRAM",
        'import time; print(\'{"done": 1, "ms": 1}\', flush=True); time.sleep(600)',
    )
    monkeypatch.setattr("maml_keras.backend.progress.Bar.update", interrupt)
    with pytest.raises(KeyboardInterrupt):
        latency.measure(tmp_path, steps=1)
    assert started[0].returncode == -signal.SIGKILL


def test_the_timing_ends_with_the_process_that_started_it():
    code = (
        "import runpy, sys, time\n"
        "found = runpy.run_path(sys.argv[1])\n"
        "found['_end_with_parent']()\n"
        "print('begun', flush=True)\n"
        "time.sleep(600)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, latency.__file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "begun\n"
        process.stdin.close()
        assert process.wait(timeout=60) == 1


@pytest.mark.skipif(not hasattr(os, "truncate"), reason="POSIX only")
@pytest.mark.parametrize(
    "file", ["variables/variables.data-00000-of-00001", "saved_model.pb"]
)
def test_a_truncated_saved_model_is_one_line_that_names_the_export(tmp_path, file):
    for path in (FOLDER / "sinusoid").rglob("*"):
        if path.is_file():
            copied = tmp_path / path.relative_to(FOLDER / "sinusoid")
            copied.parent.mkdir(exist_ok=True)
            copied.write_bytes(path.read_bytes())
    os.truncate(tmp_path / file, 1_000)
    with pytest.raises(ValueError, match=f"{tmp_path} cannot be loaded as a Saved"):
        reading.to_keras(tmp_path)
    ended = CliRunner().invoke(app, ["card", str(tmp_path), "--no-latency"])
    assert ended.exit_code == 1
    (line,) = ended.output.splitlines()
    assert line.startswith(f"error: {tmp_path} cannot be loaded as a SavedModel: ")


def test_a_truncated_network_is_named(tmp_path):
    path = tmp_path / "learner.keras"
    path.write_bytes((FOLDER / "sinusoid/learner.keras").read_bytes()[:3_000])
    with pytest.raises(ValueError, match=f"{path} cannot be loaded"):
        reading.network(path)

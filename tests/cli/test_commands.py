"""The commands of `maml-keras`, run as a user runs them."""

import dataclasses
import itertools
import json
import os
import pathlib

import keras
import numpy as np
import pytest
from typer.testing import CliRunner

from maml_keras import recipes
from maml_keras.backend import progress
from maml_keras.experiments import baselines, fixed_tasks, registry, runs
from maml_keras.export import runtimes
from maml_keras_cli import app

pytestmark = [pytest.mark.journey, pytest.mark.usefixtures("no_looks")]

SMALL = dataclasses.replace(
    registry.get("sinusoid"),
    iterations=40,
    epoch=20,
    evaluation_steps=2,
)


def run(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry.PRESETS, "sinusoid", SMALL)
        result = run("train", "sinusoid", "--out", folder, "--tasks", 20, "--quiet")
        assert result.exit_code == 0, result.output
        yield folder, result.output


@pytest.fixture
def task_file(tmp_path):
    x = np.linspace(-3, 3, 10)[:, None]
    y = 3 * np.sin(x)
    np.savez(tmp_path / "task.npz", x=x, y=y, query_x=x + 0.1, query_y=y)
    return tmp_path / "task.npz"


def test_train_prints_the_curve_and_writes_run_and_export(trained):
    folder, output = trained
    assert "95% CI over 20 tasks" in output
    assert "batch norm: transductive" in output
    assert (folder / "maml.keras").exists()
    assert (folder / "export/saved_model.pb").exists()
    result = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))
    assert result["steps"] == [0, 1, 2]


def test_evaluate_prints_a_line_for_each_step(trained):
    result = run("evaluate", trained[0], "--steps", 4, "--tasks", 20, "--quiet")
    assert result.exit_code == 0, result.output
    rows = [
        line for line in result.output.splitlines() if "±" in line and "(" not in line
    ]
    assert [int(row.split()[0]) for row in rows] == [0, 1, 2, 3, 4]


def test_a_run_is_evaluated_on_the_tasks_of_another_preset(trained):
    how = ["--preset", "sinusoid_5", "--steps", 1, "--tasks", 20, "--quiet"]
    result = run("evaluate", trained[0], *how)
    assert result.exit_code == 0, result.output
    written = json.loads(pathlib.Path(result.output.split()[-1]).read_text("utf-8"))
    assert written["preset"] == "sinusoid_5"
    maml, preset, _ = runs.load(trained[0])
    expected = fixed_tasks.evaluate(
        maml, registry.get("sinusoid_5"), steps=1, num_tasks=20, verbose=0
    )
    np.testing.assert_allclose(written["mean"], expected.curve, rtol=1e-5)
    own = fixed_tasks.evaluate(maml, preset, steps=1, num_tasks=20, verbose=0)
    assert abs(own.mean - expected.mean) > 1e-3


def test_several_runs_are_an_ensemble(trained):
    # The same run twice: the mean is each of them.
    result = run("evaluate", trained[0], trained[0], "--tasks", 20, "--quiet")
    assert result.exit_code == 0, result.output
    assert "ensemble of 2, the mean of their predictions: loss" in result.output
    rows = [line for line in result.output.splitlines() if line.startswith("|")]
    assert [row.split("|")[1].strip() for row in rows[2:]] == [
        "member 1",
        "member 2",
        "ensemble",
    ]
    assert len({row.split("|")[2] for row in rows[2:]}) == 1
    kept = json.loads((trained[0] / "ensemble.json").read_text(encoding="utf-8"))
    assert kept["on"] == "test"
    assert len(kept["members"]) == 2
    assert kept["gain"][0] == pytest.approx(0.0, abs=1e-5)


def test_export_writes_a_card_with_fresh_figures(trained, tmp_path):
    result = run(
        "export", trained[0], "--out", tmp_path / "e", "--tasks", 20, "--quiet"
    )
    assert result.exit_code == 0, result.output
    card = json.loads((tmp_path / "e/card.json").read_text(encoding="utf-8"))
    assert card["evaluation"]["tasks"] == 20
    assert card["title"] == SMALL.title


@pytest.mark.parametrize("kind", ["onnx", "litert"])
def test_export_converts_a_run_to_onnx_and_litert(trained, tmp_path, kind):
    pytest.importorskip("onnxruntime" if kind == "onnx" else "ai_edge_litert")
    out = tmp_path / f"network.{'onnx' if kind == 'onnx' else 'tflite'}"
    result = run("export", trained[0], "--format", kind, "--out", out, "--quiet")
    assert result.exit_code == 0, result.output
    assert f"{out}: " in result.output
    x = np.linspace(-3, 3, 7, dtype="float32")[:, None]
    (y,) = runtimes.FORMATS[kind].run(out, {"x": x}, ["output_0"])
    network = keras.saving.load_model(trained[0] / "maml.keras").model
    np.testing.assert_allclose(y, network(x), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_quiet_shows_no_bars(trained, task_file, tmp_path, monkeypatch):
    monkeypatch.setattr(progress, "SECONDS", 0.0)
    shown = {}
    for how in ((), ("--quiet",)):
        out = tmp_path / f"export{len(how)}"
        ended = run("export", trained[0], "--out", out, "--tasks", 20, *how)
        adapted = run("adapt", out, "--data", task_file, *how)
        assert ended.exit_code == adapted.exit_code == 0, ended.output
        shown[how] = ended.output + adapted.output
    assert "8/8" in shown[()]
    assert "20/20" in shown[()]
    assert "10/10" in shown[()]  # The steps of adaptation.
    assert "/8" not in shown["--quiet",]
    assert "20/20" not in shown["--quiet",]
    assert "10/10" not in shown["--quiet",]


def test_a_run_is_evaluated_and_exported_under_another_policy(trained, tmp_path):
    how = ["--batch-norm", "inductive", "--tasks", 20, "--quiet"]
    result = run("evaluate", trained[0], *how, "--queries", "alone")
    assert result.exit_code == 0, result.output
    assert "each alone" in result.output
    assert "batch norm: inductive" in result.output
    result = run("export", trained[0], *how, "--out", tmp_path / "export")
    assert result.exit_code == 0, result.output
    card = json.loads((tmp_path / "export" / "card.json").read_text(encoding="utf-8"))
    assert card["batch_norm"] == card["evaluation"]["batch_norm"] == "inductive"
    assert card["evaluation"]["queries"] == "together"
    assert card["iterations"] == 40
    result = run("evaluate", trained[0], "--batch-norm", "other")
    assert result.exit_code == 1
    assert "`batch_norm` must be one of" in result.output


def test_adapt_prints_before_and_after_and_writes_the_network(
    trained, task_file, tmp_path, monkeypatch
):
    # On a slow machine a bar would come first.
    monkeypatch.setattr(progress, "SECONDS", float("inf"))
    out = tmp_path / "adapted.keras"
    result = run(
        "adapt", trained[0] / "export", "--data", task_file, "--steps", 5, "--out", out
    )
    assert result.exit_code == 0, result.output
    policy, _, row = result.output.splitlines()[:3]
    assert policy == "batch norm: transductive"
    before, after = map(float, row.split()[1:3])
    assert after < before
    # The written network has the error that was printed.
    model = keras.saving.load_model(out)
    with np.load(task_file) as task:
        error = np.mean(np.square(model.predict(task["x"], verbose=0) - task["y"]))
    assert error == pytest.approx(after, rel=1e-3)  # Printed to four digits.


def test_adapt_finds_the_export_in_a_run_and_overwrites_nothing(trained, task_file):
    result = run("adapt", trained[0], "--data", task_file)
    assert result.exit_code == 0, result.output
    result = run("adapt", trained[0], "--data", task_file, "--out", task_file)
    assert result.exit_code == 1
    assert "must be a new path" in result.output


def test_list_shows_everything_with_published_figures():
    result = run("list")
    assert result.exit_code == 0, result.output
    shown = result.output.split()
    assert {*registry.PRESETS, *recipes.RECIPES, *baselines.BASELINES} <= set(shown)
    assert "published: 98.7 ± 0.4% by MAML (Finn et al. 2017" in result.output
    assert "published: Raghu et al., 2020" in result.output
    one = run("list", "algorithms").output
    assert "anil" in one
    assert "omniglot_5w1s" not in one
    assert run("list", "presents").exit_code == 2


def test_data_shows_present_data_sets_and_how_to_get_the_others(tmp_path):
    result = run("data", "--data-dir", tmp_path)
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    after = {a.split(":")[0]: b for a, b in itertools.pairwise(lines)}
    assert after["sinusoid"] == "  here: drawn as needed"
    assert "not here" in after["omniglot"]
    assert "--download" in after["cifar100"]
    assert "licence" in after["mini_imagenet"]
    for part in ("train", "val", "test"):
        (tmp_path / "mini_imagenet" / part).mkdir(parents=True)
    refused = run("data", "--out", tmp_path / "task.png")
    assert refused.exit_code == 2
    assert "need a preset" in refused.output
    again = run("data", "--data-dir", tmp_path).output
    assert f"here: {tmp_path / 'mini_imagenet'}" in again


def test_data_of_a_preset_is_described_and_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    picture = tmp_path / "task.png"
    result = run("data", "show", "sinusoid", "--out", picture)
    assert result.exit_code == 0, result.output
    assert "Sinusoid(shots=10, queries=10" in result.output
    assert "# support  o query" in result.output
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_data_audit_finds_a_leak_in_a_folder(tmp_path):
    generator = np.random.default_rng(0)
    for part in ("train", "val"):
        for name in "ab":
            folder = tmp_path / part / name
            folder.mkdir(parents=True)
            for i in range(3):
                image = generator.integers(0, 255, [12, 12, 1])
                keras.utils.save_img(folder / f"{i}.png", image, scale=False)
    clean = run("data", "audit", tmp_path / "train", "--quiet")
    assert clean.exit_code == 0, clean.output
    assert "Nothing was found." in clean.output
    image = keras.utils.load_img(tmp_path / "train" / "a" / "0.png")
    image.save(tmp_path / "val" / "b" / "0.png")
    leaking = run("data", "audit", tmp_path, "--quiet")
    assert leaking.exit_code == 1
    assert "leak     shared rows" in leaking.output
    refused = run("data", "audit", tmp_path / "nothing")
    assert refused.exit_code == 2
    assert "neither a preset nor a folder" in refused.output


@pytest.mark.skipif(
    not os.environ.get("TFDS_DATA_DIR"), reason="TFDS_DATA_DIR is not set: no Omniglot"
)
def test_data_counts_classes_and_examples(tmp_path):
    pytest.importorskip("matplotlib")
    result = run("data", "show", "omniglot_small", "--out", tmp_path / "task.png")
    assert result.exit_code == 0, result.output
    # A progress bar comes first where the images are read for the first time.
    lines = [line for line in result.output.splitlines() if line.strip()]
    parts = {line.split()[0]: line for line in lines}
    # 242 characters: Early Aramaic has 22 and Tagalog 17, Greek has 24.
    assert "39 classes of 2 groups, 780 examples 28x28x1, 20 a class" in parts["test"]
    assert "24 classes of 1 groups, 480 examples" in parts["validation"]
    assert "179 classes of 5 groups, 3,580 examples" in parts["train"]
    assert "5 ways, 1 shot(s), 15 queries a class" in parts["test"]
    assert (tmp_path / "task.png").stat().st_size > 5_000
    assert "small1 (2,720), small2 (3,120) in" in run("data").output


def test_data_of_a_file_is_shown(task_file):
    result = run("data", "show", task_file)
    assert result.exit_code == 0, result.output
    first, *plane = result.output.splitlines()
    assert first.startswith(f"{task_file}: x (10, 1), y (10, 1), query_x (10, 1)")
    assert "".join(plane).count("#") + "".join(plane).count("@") > 9


def test_data_of_a_folder_is_shown_and_another_task_is_another(tmp_path):
    for name, value in (("dark", 40), ("light", 240), ("grey", 128)):
        (tmp_path / name).mkdir()
        for i in range(3):
            image = np.full([9, 12, 3], value + i)
            keras.utils.save_img(tmp_path / name / f"{i}.png", image, scale=False)
    shown = [run("data", "show", tmp_path, "--episode", i) for i in (0, 0, 1, 2)]
    assert all(result.exit_code == 0 for result in shown), shown[0].output
    assert "3 classes, 9 examples" in shown[0].output
    assert "task 0 of 3 classes" in shown[0].output
    tasks = [result.output.partition("classes:")[2] for result in shown]
    assert "class 2" in tasks[0]
    assert tasks[0] == tasks[1]
    assert len(set(tasks)) > 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["data", "show", "sinusiod"], "Did you mean 'sinusoid'"),
        (["data", "show", "sinusoid", "--part", "tests"], "Received: 'tests'"),
        (["train", "sinusiod"], "Did you mean 'sinusoid'"),
        (["train", "sinusoid", "--iterations", "30"], "multiple of"),
        (["evaluate", "nowhere"], "maml-keras train"),
        (["export", "nowhere"], "maml-keras train"),
        (["adapt", "nowhere", "--data", "none.npz"], "maml-keras export"),
        (["train", "omniglot_5w1s", "--data-dir", "nowhere"], "--download"),
    ],
)
def test_an_error_that_a_user_can_fix_is_one_line_without_traceback(
    arguments, message, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(registry.PRESETS, "sinusoid", SMALL)
    result = run(*arguments)
    assert result.exit_code == 1
    lines = result.output.strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    assert message in lines[0]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": np.zeros([3, 1])}, "arrays x and y"),
        ({"x": np.zeros([3, 2]), "y": np.zeros([3, 1])}, "must have shape"),
        ({"x": np.zeros([3, 1]), "y": np.zeros([2, 1])}, "as many examples"),
        ({"x": np.full([3, 1], np.nan), "y": np.zeros([3, 1])}, "finite"),
        ({"x": np.zeros([0, 1]), "y": np.zeros([0, 1])}, "an example"),
    ],
)
def test_adapt_refuses_a_file_with_wrong_arrays(trained, tmp_path, arrays, message):
    np.savez(tmp_path / "bad.npz", **arrays)
    result = run("adapt", trained[0] / "export", "--data", tmp_path / "bad.npz")
    assert result.exit_code == 1
    assert message in result.output


def test_adapt_refuses_a_file_that_is_no_npz(trained, tmp_path):
    (tmp_path / "bad.npz").write_text("text", encoding="utf-8")
    result = run("adapt", trained[0] / "export", "--data", tmp_path / "bad.npz")
    assert result.exit_code == 1
    assert "numpy cannot read" in result.output


def test_wrong_usage_exits_with_2():
    assert run("train").exit_code == 2
    assert run("evaluate", "x", "--steps", "-1").exit_code == 2


def test_adapt_uses_the_given_learning_rate(trained, task_file):
    result = run("adapt", trained[0], "--data", task_file, "--learning-rate", 0)
    assert result.exit_code == 0, result.output
    before, after = result.output.splitlines()[2].split()[1:3]
    assert before == after

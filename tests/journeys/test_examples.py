"""Every example runs in small form and does what its docstring says."""

import importlib.util
import json
import pathlib
import re

import numpy as np
import pytest

import maml_keras as mk
from maml_keras.experiments import own_settings

pytestmark = [pytest.mark.journey, pytest.mark.optimized]

ROOT = pathlib.Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"

# Scripts that return evaluations before and after meta-training.
JOURNEYS = [
    "functional_model",
    "own_arrays",
    "own_series",
    "own_words",
    "pretrained_adapters",
    "recurrent_model",
    "subclassed_model",
    "text_model",
]
# Examples outside of the slow suite; the others trace for ten to thirty seconds.
QUICK = {"subclassed_model"}
OTHERS = [
    "adapt_with_onnxruntime",
    "common_point",
    "compare_algorithms",
    # tests/journeys/test_online.py runs this one and `online_stream`.
    "continual_tasks",
    "demo",
    "demo_images",
    "exactness",
    "export_and_fine_tune",
    "federated_learning",
    "online_stream",
    "own_alphabets",
    "own_folder",
    "own_large_folder",
    "own_stream",
    "own_table",
    "own_tfds",
    "personal_drawing",
    # tests/journeys/test_physics.py runs these.
    "physics_burgers",
    "physics_ode",
    "physics_poisson",
]


def load(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def beside_their_parts(monkeypatch):
    """Scripts import what they share from their own folder."""
    monkeypatch.syspath_prepend(str(EXAMPLES))


@pytest.fixture
def quick(monkeypatch):
    """Turns XLA off, which compiles for longer than a few steps take."""
    compiled = mk.MAML.compile

    def quick_compile(self, *args, **kwargs):
        compiled(self, *args, **{"jit_compile": False, **kwargs})

    monkeypatch.setattr(mk.MAML, "compile", quick_compile)


def test_every_example_is_tested_and_listed():
    there = sorted(path.stem for path in EXAMPLES.glob("*.py"))
    assert there == sorted([*JOURNEYS, *OTHERS])
    page = (ROOT / "docs/examples.md").read_text("utf-8")
    listed = re.findall(r"^- `python examples/(\w+)\.py`:", page, re.MULTILINE)
    assert sorted(listed) == there


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in QUICK else pytest.mark.slow)
        for name in JOURNEYS
    ],
)
def test_journeys_run(name, quick, capsys):
    results = load(name).main(["--meta-steps", "2"])
    before, after = (results[f"{w} meta-training"] for w in ("before", "after"))
    printed = capsys.readouterr().out
    assert before.table() in printed
    assert after.table() in printed
    # Two meta-steps teach nothing, but they change the curve.
    assert np.isfinite(after.curve).all()
    assert not np.array_equal(before.curve, after.curve)


@pytest.mark.slow
@pytest.mark.parametrize("name", JOURNEYS)
def test_journeys_improve_on_the_untrained_network(name):
    results = load(name).main([])
    before, after = (results[f"{w} meta-training"] for w in ("before", "after"))
    sign = 1 if after.higher_is_better else -1
    # The trained network after adaptation beats the untrained network after adaptation
    # and itself before adaptation, by more than chance.
    for worse in (before.curve[-1], after.curve[0]):
        margin = 2 * (before.half_width + after.half_width)
        assert sign * (after.mean - worse) > margin


@pytest.mark.slow
def test_adapters_are_added_to_a_saved_network(quick, tmp_path, capsys):
    module = load("pretrained_adapters")
    x, y = module.spectra(classes=40, examples=2, seed=1)
    saved = module.classifier(x, y, epochs=1)
    saved.save(tmp_path / "mine.keras")
    chosen = ["--network", str(tmp_path / "mine.keras"), "--meta-steps", "2"]
    capsys.readouterr()
    results = module.main(chosen)
    assert set(results) == {"before meta-training", "after meta-training"}
    assert "Epoch 2" not in capsys.readouterr().out  # There was no pretraining.


def test_the_algorithms_are_compared_task_by_task(quick, capsys):
    arguments = ["--algorithms", "maml,fomaml", "--meta-steps", "2", "--tasks", "100"]
    results = load("compare_algorithms").main(arguments)
    assert list(results) == ["maml", "fomaml"]
    *_, maml, fomaml = capsys.readouterr().out.strip().splitlines()
    gap = results["fomaml"].per_episode - results["maml"].per_episode
    assert maml.split("|")[-2].strip() == ""
    assert fomaml.split("|")[-2].split()[0] == f"{gap[:, -1].mean():+.3f}"


@pytest.mark.slow
def test_new_rows_of_a_table_are_answered_in_years(quick, tmp_path, capsys):
    how = ["--meta-steps", "2", "--seeds", "1", "--out", str(tmp_path)]
    errors = load("own_table").main(how)
    assert len(errors) == 5
    assert all(len(e) == 300 and np.isfinite(e).all() for e in errors.values())
    printed = capsys.readouterr().out
    answers = re.findall(r"^country \d+ \d{4} ([\d.]+) years$", printed, re.MULTILINE)
    assert len(answers) == 5
    # Life expectancies, and not numbers around zero.
    assert all(20 < float(answer) < 100 for answer in answers)


@pytest.mark.slow
def test_new_rows_of_a_stream_are_answered_in_kilowatts(quick, tmp_path, capsys):
    how = ["--meta-steps", "2", "--seeds", "1", "--out", str(tmp_path)]
    errors = load("own_stream").main(how)
    assert len(errors) == 5
    assert all(len(e) == 300 and np.isfinite(e).all() for e in errors.values())
    answers = re.findall(r"^ +(-?[\d.]+) kW +[\d.]+ kW$", capsys.readouterr().out, re.M)
    assert len(answers) == 5


@pytest.mark.slow
def test_a_large_folder_stays_on_disk(quick, tmp_path, capsys):
    how = ["--classes", "30", "--images", "7", "--meta-steps", "2", "--seeds", "1"]
    found = load("own_large_folder").main([*how, "--out", str(tmp_path)])
    assert len(list(tmp_path.glob("images/*/*.jpg"))) == 210
    assert list(found)[:3] == ["nearest image", "untrained", "MAML, seed 0"]
    assert len(found["MAML, seed 0"]) == 100
    assert len(re.findall(r"\d looks like class", capsys.readouterr().out)) == 5


@pytest.mark.slow
def test_the_authors_folders_of_omniglot_are_learned(
    quick, omniglot_folder, tmp_path, capsys
):
    how = ["--meta-steps", "2", "--seeds", "1", "--out", str(tmp_path)]
    found = load("own_alphabets").main(["--folder", str(omniglot_folder), *how])
    assert len(found["MAML, seed 0"]) == 100
    assert len(re.findall(r"looks like Angelic/char", capsys.readouterr().out)) == 5


def test_the_export_is_used_without_the_library(quick, tmp_path, capsys):
    found = load("export_and_fine_tune").main(
        ["--meta-steps", "200", "--out", str(tmp_path / "export")]
    )
    assert found["adapt, 5 steps"] < found["before"]
    assert found["fine_tune, 100 steps"] < found["before"]
    assert found["own loop, 100 steps"] < found["before"]
    # Equal bit for bit: `adapt` changes nothing, and `reset` undoes every change.
    assert found["still before"] == found["reset"] == found["before"]
    assert "without the library" in capsys.readouterr().out


@pytest.mark.slow
def test_a_folder_of_images_is_made_and_learned(quick, tmp_path, capsys):
    found = load("own_folder").main(["--meta-steps", "2", "--out", str(tmp_path)])
    assert len(list(tmp_path.glob("*/*.png"))) == 250
    assert set(found) == {"untrained", "trained", "one task"}
    true, guessed = capsys.readouterr().out.strip().splitlines()[-2:]
    true, guessed = (re.findall(r"\d", line) for line in (true, guessed))
    assert len(true) == len(guessed) == 15
    right = np.mean([a == b for a, b in zip(true, guessed)])
    assert found["one task"] == pytest.approx(right)


def test_a_missing_tfds_set_is_an_error(monkeypatch, tmp_path):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    with pytest.raises(SystemExit, match="download"):
        load("own_tfds").main(["--name", "cifar100", "--split", "train"])


@pytest.mark.slow
def test_a_tfds_set_is_learned(capsys):
    try:
        result = load("own_tfds").main([])
    except SystemExit as error:
        if "was not found" not in str(error):
            raise
        pytest.skip(str(error))
    assert result.mean > 0.5
    assert result.table() in capsys.readouterr().out


@pytest.mark.slow
def test_a_folder_of_images_is_learned_well(tmp_path):
    found = load("own_folder").main(["--out", str(tmp_path)])
    assert found["trained"] > found["untrained"] + 0.1


def test_a_short_demo_writes_what_it_announces(
    tmp_path, monkeypatch, few_validation_tasks
):
    pytest.importorskip("matplotlib")
    # Baselines choose between two settings.
    monkeypatch.setattr(own_settings, "RATES", (1.0,))
    monkeypatch.setattr(own_settings, "STEPS", (1,))
    out = tmp_path / "demo"
    results = load("demo").main(
        ["--iterations", "40", "--tasks", "4", "--out", str(out)]
    )
    assert set(results) == {"MAML", "pretrained", "random"}
    for name in ("adaptation.png", "fits.png", "export/saved_model.pb", "maml.keras"):
        assert (out / name).exists()


@pytest.mark.slow
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
    shown = capsys.readouterr().out
    assert "mean squared error on 40 new tasks" in shown
    # What the baselines chose, and how far it brings them.
    assert "both choose on validation tasks: rates 0.001, " in shown
    for name in ("pretrained", "random"):
        assert results[name].steps == 10
        assert f"{name} takes " in shown
        assert f"{name} as it chose: loss " in shown
    card = json.loads((out / "export/card.json").read_text("utf-8"))
    typed = "python examples/demo.py --iterations 3000 --tasks 40 --out "
    assert card["command"] == typed + str(out)


@pytest.mark.slow
def test_new_scripts_are_read_better_than_by_the_nearest_drawing(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    out = tmp_path / "demo"
    results = load("demo_images").main(["--tasks", "100", "--out", str(out)])
    printed = capsys.readouterr().out
    nearest = float(re.search(r"nearest drawing +([\d.]+)%", printed)[1]) / 100
    assert results["MAML"].mean > max(nearest, results["untrained"].mean) + 0.1
    for name in ("task.png", "export/saved_model.pb"):
        assert (out / name).exists()


def test_demo_overwrites_no_folder(tmp_path, monkeypatch):
    module = load("demo")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/config.toml").write_text("kept = true")

    def stop(preset, folder, **options):
        raise KeyboardInterrupt(folder)

    monkeypatch.setattr(module.runs, "train", stop)
    with pytest.raises(KeyboardInterrupt) as stopped:
        module.main(["--out", str(tmp_path / "mine")])
    assert stopped.value.args == (tmp_path / "mine-2",)
    assert (tmp_path / "mine/config.toml").read_text() == "kept = true"


@pytest.mark.slow
def test_exactness_prints_both_errors(capsys):
    errors = load("exactness").main()
    for layer in ("BatchNormalization", "LayerNormalization", "GroupNormalization"):
        assert errors[layer][0] > 1e-2
    assert np.all([here < 1e-7 for _, here in errors.values()])
    assert errors["none"][0] < 1e-7
    assert "| BatchNormalization" in capsys.readouterr().out


@pytest.fixture
def pictures(monkeypatch):
    """The script `common_point`, with films of two frames for each part."""
    pytest.importorskip("matplotlib")
    module = load("common_point")
    drawing = importlib.import_module("common_point_parts.drawing")
    monkeypatch.setattr(drawing, "pace", lambda last, frames: [0, last])
    return module


def assert_readable(*paths):
    image = pytest.importorskip("PIL.Image")
    for path in paths:
        with image.open(path) as picture:
            frames = getattr(picture, "n_frames", 1)
            assert frames > 1 if path.suffix == ".gif" else frames == 1
            for frame in range(frames):
                picture.seek(frame)
                # The picture can be decoded and has more than one colour.
                assert np.ptp(np.asarray(picture.convert("RGB"))) > 100


@pytest.mark.slow
def test_meta_training_finds_the_point_common_to_all_tasks(pictures, tmp_path):
    problem = pictures.lines()
    maml, joint, path = pictures.train(problem, seed=0)
    results = pictures.race(problem, maml, joint, tasks=20, seed=0)
    scene = pictures.in_the_plane(problem, maml, joint, path, results)
    theta, random = scene.path[-1], scene.starts[pictures.RANDOM]
    np.testing.assert_array_equal(scene.path[0], random)
    for task in scene.tasks.values():
        best = np.array(task.best)
        # The meta-learned weights are nearer to every task's best weights, and need
        # fewer steps to reach them.
        assert np.linalg.norm(theta - best) < np.linalg.norm(random - best)
        steps = {start: len(way) - 1 for start, way in task.ways.items()}
        assert steps[pictures.META] < steps[pictures.RANDOM]
        for start, losses in task.losses.items():
            assert losses[-1] < problem.threshold < losses[:-1].min()
            assert len(losses) == len(task.ways[start])
    # They are near the common point itself, which no task shows.
    assert np.linalg.norm(theta - problem.family.common) < 0.5
    found = {name: np.median(result.steps) for name, result in results.items()}
    assert found[pictures.META] < found[pictures.JOINT]
    assert found[pictures.META] < found[pictures.RANDOM]
    assert_readable(*pictures.plane.draw(scene, tmp_path))
    assert_readable(pictures.totals.draw({"lines": results}, tmp_path))


@pytest.mark.slow
def test_sinusoids_are_learned_in_fewer_steps_from_theta(pictures, tmp_path, capsys):
    found = pictures.main(["--tasks", "20", "--out", str(tmp_path)])
    results = found["sinusoids"]
    steps = {name: np.median(result.steps) for name, result in results.items()}
    assert steps[pictures.META] < steps[pictures.RANDOM]
    examples = {name: np.median(result.examples) for name, result in results.items()}
    assert examples[pictures.META] <= examples[pictures.RANDOM]
    assert_readable(*tmp_path.glob("*.png"), *tmp_path.glob("*.gif"))
    assert len(list(tmp_path.iterdir())) == 7
    assert "| meta-learned |" in capsys.readouterr().out


def test_a_file_adapts_with_onnxruntime_alone(tmp_path, capsys):
    path = tmp_path / "learner.onnx"
    mk.convert(ROOT / "saved_models/sinusoid", path, adapt=True)
    script = (EXAMPLES / "adapt_with_onnxruntime.py").read_text("utf-8")
    assert set(re.findall(r"^import (\w+)", script, re.MULTILINE)) == {
        "argparse",
        "json",
        "numpy",
        "onnxruntime",
    }
    before, after = load("adapt_with_onnxruntime").main([str(path), "--steps", "10"])
    assert (
        f"mean squared error before adaptation {before:.3f}" in capsys.readouterr().out
    )
    assert after < before / 5


@pytest.mark.slow
def test_people_are_compared_with_one_model_for_all(quick, capsys):
    how = ["--meta-steps", "2", "--epochs", "1", "--seeds", "2"]
    found = load("personal_drawing").main(how)
    assert len(found) == 2
    assert len(found[0]) == 5
    for errors, _ in (e for seed in found for e in seed.values()):
        assert errors.shape == (30,)  # The stand-ins have five new people of twenty.
        assert np.isfinite(errors).all()
    assert "people: [72, 18, 30]" in capsys.readouterr().out


@pytest.mark.slow
def test_rounds_of_federated_learning_are_taken_and_counted(quick, capsys):
    found = load("federated_learning").main(["--rounds", "2", "--seeds", "1"])
    assert len(found[0]) == 6
    assert all(np.isfinite(errors).all() for errors, _ in found[0].values())
    # The network has 196 * 64 + 64 + 64 * 64 + 64 + 64 * 4 + 4 weights of four bytes.
    assert "68.1 KB to and 68.1 KB from each of 20 clients" in capsys.readouterr().out

"""`maml-keras adapt` on folders of images and on files."""

import re

import helpers
import keras
import numpy as np
import pytest
import tensorflow as tf
from typer.testing import CliRunner

from maml_keras import MAML, SGD, InnerLoop
from maml_keras.export.file_adaptation import adapt_file
from maml_keras_cli import app

pytestmark = pytest.mark.journey

WAYS = 3


def run(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture(scope="module")
def export(tmp_path_factory):
    """An export that tells three classes of 4x4 grey images apart."""
    model = keras.Sequential(
        [keras.Input([4, 4, 1]), keras.layers.Flatten(), keras.layers.Dense(WAYS)]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    path = tmp_path_factory.mktemp("images") / "saved"
    return MAML(model, InnerLoop(loss, SGD(0.5), steps=1)).export(path)


def draw(folder, names, *, size=8, count=2):
    """Writes images with a bright quadrant for each class, larger than the export's."""
    for quadrant, name in names.items():
        (folder / name).mkdir(parents=True)
        for i in range(count):
            image = np.zeros([2, size // 2, 2, size // 2, 1])
            image[quadrant // 2, :, quadrant % 2] = 255 - i
            keras.utils.save_img(
                folder / name / f"{i}.png", image.reshape(size, size, 1), scale=False
            )
    return folder


def test_adapt_learns_from_a_folder_of_six_images(export, tmp_path):
    mine = draw(tmp_path / "mine", {0: "cat", 1: "ape", 2: "dog"})
    query = draw(tmp_path / "query", {2: "dog", 0: "cat"}, size=4, count=1)
    out = tmp_path / "adapted.keras"
    result = run(
        *("adapt", export, "--data", mine, "--query", query),
        *("--steps", 50, "--out", out, "--quiet"),
    )
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert lines[:3] == [
        "class 0: ape, 2 example(s)",
        "class 1: cat, 2 example(s)",
        "class 2: dog, 2 example(s)",
    ]
    rows = {line.split()[0]: line.split() for line in lines[3:]}
    assert rows["yours"][2:] == ["1", "accuracy"]
    assert rows["query"][2:] == ["1", "accuracy"]
    # Cats are class 1 in the query set, too, although it has no apes.
    model = keras.saving.load_model(out)
    cat = np.zeros([1, 4, 4, 1])
    cat[:, :2, :2] = 1.0
    assert np.argmax(model.predict(cat, verbose=0)) == 1


def more_classes(folder):
    return draw(folder, {0: "a", 1: "b", 2: "c", 3: "d"})


def no_classes(folder):
    folder.mkdir()
    return folder


def unreadable(folder):
    draw(folder, {0: "a", 1: "b"})
    (folder / "a" / "0.png").write_text("text", encoding="utf-8")
    return folder


def nothing(folder):
    return folder


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (more_classes, "at most 3 classes, .* Received: 4 in"),
        (no_classes, "must hold a folder of images"),
        (unreadable, "cannot be read as an image with 1 channels"),
        (nothing, "does not exist"),
    ],
)
def test_a_wrong_folder_is_refused(export, tmp_path, make, message):
    result = run("adapt", export, "--data", make(tmp_path / "data"))
    assert result.exit_code == 1
    assert message in result.output or re.search(message, result.output)
    assert len(result.output.strip().splitlines()) == 1


def test_a_query_of_another_class_is_refused(export, tmp_path):
    mine = draw(tmp_path / "mine", {0: "cat", 1: "ape"})
    query = draw(tmp_path / "query", {0: "cat", 1: "cow"})
    result = run("adapt", export, "--data", mine, "--query", query)
    assert result.exit_code == 1
    assert "must hold the classes of `--data`: ape, cat. Received: cow" in result.output


def test_a_file_of_numbers_needs_labels_in_range(export, tmp_path):
    np.savez(tmp_path / "task.npz", x=np.zeros([2, 4, 4, 1]), y=[0, WAYS])
    result = run("adapt", export, "--data", tmp_path / "task.npz")
    assert result.exit_code == 1
    assert "`y` must hold labels 0..2" in result.output


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"y": np.eye(3)}, "Turn one-hot rows into class numbers: `y.argmax(-1)`"),
        ({"x": np.zeros([3, 4, 4])}, "Give grey images a last axis: `x[..., None]`"),
        ({"x": np.zeros([3, 5, 6, 1])}, "`tf.image.resize(x, (4, 4), antialias=True)`"),
        ({"x": np.full([3, 4, 4, 1], 200)}, "must be float32, scaled as in training"),
        ({"query_x": np.zeros([3, 4, 4, 1])}, "query_x and query_y, or neither"),
    ],
)
def test_wrong_arrays_are_refused_with_a_remedy(arrays, message, export, tmp_path):
    good = {"x": np.zeros([3, 4, 4, 1], "float32"), "y": [0, 1, 2]}
    np.savez(tmp_path / "task.npz", **{**good, **arrays})
    result = run("adapt", export, "--data", tmp_path / "task.npz")
    assert result.exit_code == 1
    assert message in result.output or re.search(message, result.output)
    assert len(result.output.strip().splitlines()) == 1


@pytest.mark.parametrize(("size", "warned"), [(255, True), (1, False)])
def test_bytes_as_floats_give_a_warning(size, warned, export, tmp_path, caplog):
    x = np.round(size * np.random.default_rng(0).random([3, 4, 4, 1]))
    np.savez(tmp_path / "task.npz", x=x.astype("float32"), y=[0, 1, 2])
    assert run("adapt", export, "--data", tmp_path / "task.npz").exit_code == 0
    assert ("images with values up to 255" in caplog.text) == warned


def test_a_file_of_one_array_is_refused(export, tmp_path):
    np.save(tmp_path / "x.npy", np.zeros([3, 4, 4, 1]))
    result = run("adapt", export, "--data", tmp_path / "x.npy")
    assert result.exit_code == 1
    assert "`--data` must be an .npz file with arrays x and y" in result.output


def test_an_error_names_the_option_of_the_wrong_folder(export, tmp_path):
    mine = draw(tmp_path / "mine", {0: "cat", 1: "ape"})
    result = run("adapt", export, "--data", mine, "--query", mine / "cat")
    assert result.exit_code == 1
    assert "`--query`: " in result.output


def test_an_adapted_network_instead_of_an_export_is_refused(tmp_path):
    (tmp_path / "adapted.keras").write_bytes(b"")
    result = run("adapt", tmp_path / "adapted.keras", "--data", tmp_path)
    assert result.exit_code == 1
    assert "a Keras file, which cannot be adapted here" in result.output


def test_targets_of_one_number_may_leave_the_last_axis_out(tmp_path):
    model = keras.Sequential([keras.Input([1]), keras.layers.Dense(1)])
    path = MAML(model, InnerLoop("mse", SGD(0.1))).export(tmp_path / "saved")
    x = np.linspace(-1, 1, 5, dtype="float32")
    for name, wide in (("row", x[:, None]), ("column", x)):
        np.savez(tmp_path / f"{name}.npz", x=x[:, None], y=wide)
    outputs = [
        run("adapt", path, "--data", tmp_path / f"{name}.npz").output
        for name in ("row", "column")
    ]
    assert outputs[0] == outputs[1]
    assert "mean squared error" in outputs[0]


def test_a_folder_needs_an_export_that_takes_images(tmp_path):
    model = keras.Sequential([keras.Input([1]), keras.layers.Dense(1)])
    path = MAML(model, InnerLoop("mse", SGD(0.1))).export(tmp_path / "saved")
    mine = draw(tmp_path / "mine", {0: "cat"})
    result = run("adapt", path, "--data", mine)
    assert result.exit_code == 1
    assert "can be a folder if the export takes images" in result.output


def test_the_written_network_normalises_as_the_export_after_its_steps(tmp_path):
    """With the policy that has statistics, scale and offset for each step."""
    maml = helpers.maml(
        helpers.batch_normalised(), steps=2, batch_norm="per_step_running"
    )
    for variable in maml.batch_norm.variables:  # Make the steps' rows differ.
        variable.assign(variable + keras.random.uniform(variable.shape))
    path = maml.export(tmp_path / "saved")
    task = {k: v[0] for k, v in helpers.regression()[0].items()}
    np.savez(tmp_path / "task.npz", x=task["support_x"], y=task["support_y"])
    out = tmp_path / "adapted.keras"
    result = run(
        *("adapt", path, "--data", tmp_path / "task.npz"), *("--steps", 1, "--out", out)
    )
    assert result.exit_code == 0, result.output
    saved = tf.saved_model.load(str(path))
    np.testing.assert_allclose(
        keras.saving.load_model(out).predict(task["query_x"], verbose=0),
        saved.adapt_and_predict(**task, steps=1),
        rtol=1e-4,
        atol=1e-5,
    )


ONE_HOT = np.eye(2, dtype="float32")[[0, 1, 1, 0]]


@pytest.mark.parametrize(
    ("loss", "y", "name", "value"),
    [
        ("mae", np.full([4, 2], 3.0), "mean absolute error", 3.0),
        (
            keras.losses.CategoricalCrossentropy(from_logits=True),
            ONE_HOT,
            "accuracy",
            0.5,
        ),
        (
            keras.losses.SparseCategoricalCrossentropy(True, ignore_class=-1),
            np.array([0, 1, -1, -1]),
            "accuracy",
            0.5,
        ),
    ],
    ids=["mae", "one-hot", "ignored"],
)
def test_the_table_has_the_metric_of_the_exports_loss(loss, y, name, value, tmp_path):
    model = keras.Sequential(
        [keras.Input([3]), keras.layers.Dense(2, kernel_initializer="zeros")]
    )
    path = MAML(model, InnerLoop(loss, SGD(0.1))).export(tmp_path / "export")
    np.savez(tmp_path / "task.npz", x=np.ones([4, 3]), y=y)
    table = adapt_file(path, tmp_path / "task.npz", steps=0)
    # A network of zeros predicts the first class.
    assert table.splitlines()[-1].split(maxsplit=3) == [
        "yours",
        f"{value:.4g}",
        f"{value:.4g}",
        name,
    ]


def test_bytes_in_a_file_are_refused(export, tmp_path):
    np.savez(tmp_path / "task.npz", x=np.zeros([2, 4, 4, 1], "uint8"), y=[0, 1])
    result = run("adapt", export, "--data", tmp_path / "task.npz")
    assert result.exit_code == 1
    assert "Received: uint8" in result.output


def test_a_network_that_scales_bytes_itself_takes_no_folder(tmp_path):
    model = keras.Sequential(
        [
            keras.Input([4, 4, 1]),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Flatten(),
            keras.layers.Dense(WAYS),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    path = MAML(model, InnerLoop(loss, SGD(0.5), steps=1)).export(tmp_path / "saved")
    mine = draw(tmp_path / "mine", {0: "cat", 1: "ape"})
    result = run("adapt", path, "--data", mine)
    assert result.exit_code == 1
    assert "must be an .npz file for this export, whose network scales" in result.output


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 and no more"])
def test_an_incomplete_file_is_refused(content, export, tmp_path):
    (tmp_path / "cut.npz").write_bytes(content)
    result = run("adapt", export, "--data", tmp_path / "cut.npz")
    assert result.exit_code == 1
    assert "which numpy cannot read" in result.output

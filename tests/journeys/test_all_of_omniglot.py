"""All of Omniglot, from folders as the author's archives unzip."""

import dataclasses
import functools
import os
import pathlib
import shlex

import numpy as np
import pytest
import tensorflow as tf
from typer.testing import CliRunner

from maml_keras import data
from maml_keras.data.omniglot_alphabets import CHARACTERS
from maml_keras.data.omniglot_folders import list_drawings
from maml_keras.data.omniglot_splits import numbered
from maml_keras.experiments import registry
from maml_keras.models import conv4
from maml_keras.monitoring.watch import Watch
from maml_keras_cli import app

pytestmark = pytest.mark.journey

# One preset of each kind; the kinds differ in the tasks that they draw.
NAMES = [
    "omniglot_small_20w",
    "omniglot_small_alone",
    "omniglot_5w5s_short",
    pytest.param("omniglot_5w5s", marks=pytest.mark.slow),
]


# Tasks of the same ways and more shots, whose test characters are those of the paper.
OTHERS = {5: "omniglot_5w5s", 20: "omniglot_20w5s"}


def test_the_drawings_are_whole_and_in_the_order_of_their_numbers(omniglot_folder):
    drawings = list_drawings(
        omniglot_folder, CHARACTERS
    )  # Nothing is missing: no warning.
    assert len(drawings) == 32_460
    names = {drawing.number: drawing.class_name for drawing in drawings}
    assert [names[number] for number in range(1, 1624)] == numbered()


@pytest.mark.parametrize("name", NAMES)
def test_the_tasks_of_a_preset_come_from_the_folders(omniglot_folder, name):
    families = registry.get(name).families(data_dir=omniglot_folder)
    classes = [set(family.pool.class_names) for family in families]
    assert not classes[0] & classes[1]
    assert not classes[2] & (classes[0] | classes[1])
    if "small" not in name:
        assert [len(part) for part in classes] == [1100, 100, 423]
        assert all(family.rotate_classes for family in families)
        assert {family.queries for family in families[1:]} == {families.test.shots}
        trained = 5 if name == "omniglot_5w5s_short" else 1
        sizes = families.train.shots, families.train.queries
        assert sizes == (trained, trained)
    task, query_y = families.test.sample_many([0, 1], 2)
    # Ink is 1 on paper 0, and covers a small part of the paper.
    images = np.asarray(task["support_x"])
    assert images.max() == 1
    assert 0.02 < images.mean() < 0.3
    assert query_y.shape[-1] == families.test.ways * families.test.queries


@pytest.mark.skipif(
    not os.environ.get("TFDS_DATA_DIR"), reason="TFDS_DATA_DIR is not set: no Omniglot"
)
def test_both_sources_have_the_same_characters(omniglot_folder):
    by_tfds, by_folder = (
        data.omniglot(where, split="small1+small2", verbose=0)
        for where in (None, omniglot_folder)
    )
    assert set(by_tfds.class_names) == set(by_folder.class_names)
    # The mean drawing of a character is its own, not that of another character: the
    # sources differ in resampling only.
    means = [
        {
            name: pool.select([number]).examples.astype(float).mean(axis=0).ravel()
            for number, name in enumerate(pool.class_names)
        }
        for pool in (by_tfds, by_folder)
    ]
    table = np.stack(list(means[0].values()))
    nearest = {
        name: list(means[0])[int(np.argmin(np.abs(table - mean).sum(axis=1)))]
        for name, mean in means[1].items()
    }
    assert [name for name, found in nearest.items() if found != name] == []


@pytest.mark.slow  # Traces the training, the looks and the export of each preset.
@pytest.mark.parametrize(
    "name", [name for name in registry.PRESETS if name.startswith("omniglot")]
)
def test_one_command_trains_resumes_evaluates_and_exports(
    name, omniglot_folder, tmp_path, monkeypatch
):
    preset = registry.get(name)
    test = preset.families(data_dir=omniglot_folder).test
    small = dataclasses.replace(
        preset,
        tasks=2,
        iterations=2,
        epoch=1,
        evaluation_steps=1,
        model=functools.partial(conv4, ways=test.ways, filters=4),
    )
    monkeypatch.setitem(registry.PRESETS, name, small)
    monkeypatch.chdir(tmp_path)

    def run(*words):
        return CliRunner().invoke(app, [str(word) for word in words])

    def interrupt(self, epoch, logs=None):
        if epoch == 1:
            raise KeyboardInterrupt

    where = ["--data-dir", omniglot_folder, "--out", "run", "--tasks", 2]
    with monkeypatch.context() as patch:
        patch.setattr(Watch, "on_epoch_begin", interrupt, raising=False)
        cut = run("train", name, *where)
    assert cut.exit_code == 130, cut.output
    assert "Continue with" in cut.output
    resumed = run(*shlex.split(cut.output.split("`")[1])[1:])
    assert resumed.exit_code == 0, resumed.output
    assert len(pathlib.Path("run/history.jsonl").read_text().splitlines()) == 2
    # The folder of the data is in the run's settings.
    again = run("evaluate", "run", "--tasks", 2, "--on", "validation")
    assert again.exit_code == 0, again.output
    assert "over 2 tasks" in again.output
    saved = tf.saved_model.load("run/export")
    task, _ = test.sample_many([0, 2], 1)
    logits = saved.adapt_and_predict(
        *(task[key][0] for key in ("support_x", "support_y", "query_x")), steps=1
    )
    assert logits.shape == (test.ways * test.queries, test.ways)
    found = run("evaluate", "run", "--tasks", 2, "--preset", OTHERS[test.ways])
    if "small" in name:  # It trained on characters of the other test.
        assert "not trained on" in found.output
    else:
        assert found.exit_code == 0, found.output

"""Runs: trained into a folder, interrupted, resumed, evaluated and exported."""

import dataclasses
import json
import pathlib
import shutil

import keras
import numpy as np
import pytest

from maml_keras import MAML
from maml_keras.experiments import fixed_tasks, registry, runs
from maml_keras.monitoring.watch import Watch
from maml_keras.outer.backup import WholeBackup

pytestmark = [
    pytest.mark.journey,
    pytest.mark.usefixtures("tasks_in_a_loop", "no_looks"),
]

SMALL = dataclasses.replace(
    registry.get("sinusoid"),
    iterations=40,
    epoch=20,
    evaluation_steps=2,
)


def weights(maml):
    return [np.asarray(v) for v in maml.variables]


@pytest.fixture(autouse=True)
def small_preset(monkeypatch):
    # Pictures take longer than these runs; test_watch.py tests them.
    monkeypatch.setattr("maml_keras.monitoring.figures.can_draw", lambda: False)
    monkeypatch.setitem(registry.PRESETS, "sinusoid", SMALL)


@pytest.mark.usefixtures("looks")
def test_a_run_leaves_model_configuration_and_logs(tmp_path):
    maml = runs.train(SMALL, tmp_path / "run", seed=3, verbose=0, command="the command")
    loaded, preset, config = runs.load(tmp_path / "run")
    assert preset == SMALL
    record = config.pop("record")
    assert config == {
        "preset": "sinusoid",
        "algorithm": "maml",
        "iterations": 40,
        "epoch": 20,
        "seed": 3,
    }
    assert record["command"] == "the command"
    own = {"maml_keras", "tensorflow", "keras", "python"}
    assert set(record["versions"]) == own
    for a, b in zip(weights(maml), weights(loaded)):
        np.testing.assert_array_equal(a, b)
    assert int(loaded.optimizer.iterations) == 40
    assert int(loaded.episodes_seen) == 40 * SMALL.tasks
    for part in ("", "train", "validation"):
        assert list((tmp_path / "run/logs/adaptation" / part).glob("*tfevents*"))
    assert not (tmp_path / "run/backup").exists()


@pytest.mark.default_map
def test_an_interrupted_run_resumes_to_the_same_weights(tmp_path, monkeypatch):
    whole = runs.train(SMALL, tmp_path / "whole", verbose=0)

    look = Watch.on_epoch_end

    def crash(self, epoch, logs=None):
        if epoch == 1:
            raise RuntimeError("power cut")
        look(self, epoch, logs)

    with monkeypatch.context() as patch:
        patch.setattr(Watch, "on_epoch_end", crash)
        with pytest.raises(RuntimeError, match="power cut"):
            runs.train(SMALL, tmp_path / "cut", verbose=0)
    with pytest.raises(FileNotFoundError, match=r"--config \S+config.toml --out"):
        runs.load(tmp_path / "cut")
    assert (tmp_path / "cut" / "backup").exists()
    resumed = runs.train(SMALL, tmp_path / "cut", resume=True, verbose=0)
    # Equal weights show that weights, Adam's state and the stream of episodes were
    # all restored.
    for a, b in zip(weights(whole), weights(resumed)):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_a_run_interrupted_while_its_model_was_saved_resumes(tmp_path, monkeypatch):
    whole = runs.train(SMALL, tmp_path / "whole", verbose=0)

    def crash(self, path, **options):
        path.write_text("half")
        raise RuntimeError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(MAML, "save", crash)
        with pytest.raises(RuntimeError, match="disk full"):
            runs.train(SMALL, tmp_path / "cut", verbose=0)
    log = tmp_path / "cut" / runs.HISTORY
    written = log.stat().st_mtime_ns
    resumed = runs.train(SMALL, tmp_path / "cut", resume=True, verbose=0)
    assert log.stat().st_mtime_ns == written  # No epoch was trained again.
    assert int(resumed.optimizer.iterations) == SMALL.iterations
    for a, b in zip(weights(whole), weights(runs.load(tmp_path / "cut")[0])):
        np.testing.assert_array_equal(a, b)
    assert sorted(p.name for p in (tmp_path / "cut").iterdir()) == sorted(
        p.name for p in (tmp_path / "whole").iterdir()
    )


def test_a_folder_with_a_run_is_not_overwritten(tmp_path):
    runs.train(SMALL, tmp_path, verbose=0)
    with pytest.raises(FileExistsError, match="--resume"):
        runs.train(SMALL, tmp_path, verbose=0)
    with pytest.raises(ValueError, match="settings it.*'seed': 0.*--config"):
        runs.train(SMALL, tmp_path, seed=1, resume=True, verbose=0)


def test_resuming_an_ended_run_of_a_users_own_preset_changes_nothing(tmp_path):
    mine = dataclasses.replace(SMALL, name="mine", iterations=20)
    maml = runs.train(mine, tmp_path, verbose=0)
    written = (tmp_path / runs.MODEL).stat().st_mtime_ns
    again = runs.train(mine, tmp_path, resume=True, verbose=0)
    assert (tmp_path / runs.MODEL).stat().st_mtime_ns == written
    for a, b in zip(weights(maml), weights(again)):
        np.testing.assert_array_equal(a, b)


def test_resume_needs_a_run(tmp_path):
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(FileNotFoundError, match="interrupted run"):
        runs.train(SMALL, tmp_path, resume=True, verbose=0)


def test_iterations_that_do_not_fill_epochs_are_refused_with_the_next_number(tmp_path):
    with pytest.raises(ValueError, match="multiple of the 20.*Take 20"):
        runs.train(SMALL, tmp_path, iterations=30, verbose=0)


def test_a_run_of_no_meta_steps_is_refused(tmp_path):
    for iterations in (0, -5):
        with pytest.raises(ValueError, match="`iterations` must be positive"):
            runs.train(SMALL, tmp_path, iterations=iterations, verbose=0)


def test_a_missing_run_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="maml-keras train"):
        runs.load(tmp_path / "none")


def test_the_card_states_a_runs_command_seed_and_results(tmp_path):
    maml = runs.train(SMALL, tmp_path / "run", seed=4, verbose=0, command="do it")
    result = fixed_tasks.evaluate(maml, SMALL, num_tasks=25, verbose=0)
    _, _, config = runs.load(tmp_path / "run")
    path = runs.export(maml, SMALL, config, result, tmp_path / "export")
    card = json.loads((path / "card.json").read_text(encoding="utf-8"))
    assert card["command"] == "do it"
    assert card["seed"] == 4
    assert card["evaluation"]["tasks"] == 25
    assert card["evaluation"]["queries_per_task"] == 10
    assert card["evaluation"]["batch_norm"] == "transductive"
    assert card["evaluation"]["diverged_tasks"] == [0, 0, 0]
    np.testing.assert_allclose(card["evaluation"]["mean"], result.curve)
    assert set(card["versions"]) == {"maml_keras", "tensorflow", "keras", "python"}


def halve(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_a_run_with_a_damaged_model_resumes_from_its_backup(
    tmp_path, monkeypatch, caplog
):
    with monkeypatch.context() as patch:
        # Interrupted before the backup was removed.
        patch.setattr(WholeBackup, "remove", lambda self: None)
        whole = runs.train(SMALL, tmp_path / "run", verbose=0)
    path = tmp_path / "run" / runs.MODEL
    halve(path)
    with pytest.raises(FileNotFoundError, match="has not ended. Continue it with"):
        runs.load(tmp_path / "run")
    assert (tmp_path / "run" / runs.BACKUP).exists()
    runs.train(SMALL, tmp_path / "run", resume=True, verbose=0)
    assert f"{path} cannot be loaded" in caplog.text
    for a, b in zip(weights(whole), weights(runs.load(tmp_path / "run")[0])):
        np.testing.assert_array_equal(a, b)
    assert not (tmp_path / "run" / runs.BACKUP).exists()


def test_a_damaged_model_without_a_backup_is_named(tmp_path):
    runs.train(SMALL, tmp_path / "run", verbose=0)
    path = tmp_path / "run" / runs.MODEL
    halve(path)
    for call in (
        lambda: runs.load(tmp_path / "run"),
        lambda: runs.train(SMALL, tmp_path / "run", resume=True, verbose=0),
    ):
        with pytest.raises(ValueError, match=f"{path} cannot be loaded: .*no backup"):
            call()


@pytest.mark.slow
def test_the_backup_stays_if_the_saved_model_is_damaged(tmp_path, monkeypatch):
    save = MAML.save

    def damage(self, path, **options):
        save(self, path, **options)
        halve(path)

    with monkeypatch.context() as patch:
        patch.setattr(MAML, "save", damage)
        with pytest.raises(OSError, match="cannot be loaded back"):
            runs.train(SMALL, tmp_path / "run", verbose=0)
    assert (tmp_path / "run" / runs.BACKUP).exists()
    assert not (tmp_path / "run" / runs.MODEL).exists()
    maml = runs.train(SMALL, tmp_path / "run", resume=True, verbose=0)
    assert int(maml.optimizer.iterations) == SMALL.iterations


@pytest.mark.parametrize("file", ["latest.weights.h5", "training_metadata.json"])
def test_a_damaged_backup_is_named(file, tmp_path):
    model = keras.Sequential([keras.Input([1]), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    x = np.ones([4, 1])
    backup = WholeBackup(tmp_path / "backup", delete_checkpoint=False)
    model.fit(x, x, verbose=0, callbacks=[backup])
    halve(tmp_path / "backup" / file)
    again = WholeBackup(tmp_path / "backup")
    with pytest.raises(ValueError, match=f"The backup in {tmp_path}/backup cannot be"):
        model.fit(x, x, verbose=0, callbacks=[again])
    assert (tmp_path / "backup").exists()


@pytest.mark.parametrize("file", ["latest.weights.h5", "training_metadata.json"])
def test_an_interrupted_backup_leaves_the_one_before(file, tmp_path, monkeypatch):
    model = keras.Sequential([keras.Input([1]), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.1), "mse")
    x, y, kept = np.ones([4, 1]), np.ones([4, 1]), []
    save = keras.callbacks.BackupAndRestore._save_model

    def cut(self):
        save(self)
        kept.append([w.copy() for w in model.get_weights()])
        if len(kept) == 2:
            path = pathlib.Path(self.backup_dir) / file
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
            raise KeyboardInterrupt

    backup = WholeBackup(tmp_path / "backup")
    monkeypatch.setattr(keras.callbacks.BackupAndRestore, "_save_model", cut)
    with pytest.raises(KeyboardInterrupt):
        model.fit(x, y, epochs=5, verbose=0, callbacks=[backup])
    monkeypatch.setattr(keras.callbacks.BackupAndRestore, "_save_model", save)
    model.set_weights([0.0 * w for w in model.get_weights()])
    again = WholeBackup(tmp_path / "backup")
    again.set_model(model)
    again.on_train_begin()
    assert model._initial_epoch == 1
    for restored, first in zip(model.get_weights(), kept[0]):
        np.testing.assert_array_equal(restored, first)
    model.fit(x, y, epochs=5, verbose=0, callbacks=[again])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("file", ["latest.weights.h5", "training_metadata.json"])
def test_half_a_backup_is_not_restored(file, tmp_path, monkeypatch):
    model = keras.Sequential([keras.Input([1]), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    x = np.ones([4, 1])

    def cut(folder, **options):
        if pathlib.Path(folder).exists():
            (pathlib.Path(folder) / file).unlink()
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", cut)
        with pytest.raises(KeyboardInterrupt):
            model.fit(x, x, verbose=0, callbacks=[WholeBackup(tmp_path / "backup")])
    again = WholeBackup(tmp_path / "backup", delete_checkpoint=False)
    history = model.fit(x, x, epochs=2, verbose=0, callbacks=[again])
    assert history.epoch == [0, 1]
    assert [p.name for p in tmp_path.iterdir()] == ["backup"]


def test_a_later_fit_begins_at_its_first_epoch(tmp_path):
    model = keras.Sequential([keras.Input([1]), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    x = np.ones([4, 1])
    backup = WholeBackup(tmp_path / "backup", delete_checkpoint=False)
    model.fit(x, x, epochs=2, verbose=0, callbacks=[backup])
    assert not model.fit(x, x, epochs=2, verbose=0, callbacks=[backup]).epoch
    assert model.fit(x, x, epochs=2, verbose=0).epoch == [0, 1]

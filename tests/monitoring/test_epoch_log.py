"""Training time without compilation and other callbacks, and the log of epochs."""

import time

import pytest

from maml_keras.monitoring.epoch_log import EpochLog, Stopwatch, read


def test_neither_compilation_nor_other_callbacks_count(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    # The run resumes at epoch 5, so its earlier logs of epoch 5 are ignored.
    before = [
        {"epoch": e, "seconds": s} for e, s in ((3, 90.0), (4, 100.0), (5, 110.0))
    ]
    watch = Stopwatch(before)
    ends = []
    for epoch in range(5, 7):
        watch.on_epoch_begin(epoch)
        for batch in range(3):
            clock[0] += 50.0 if (epoch, batch) == (5, 0) else 1.0
            watch.on_train_batch_end(batch)
        assert watch.elapsed() == {5: 102.0, 6: 105.0}[epoch]
        logs = {}
        watch.on_epoch_end(epoch, logs)
        ends.append(logs["seconds"])
        clock[0] += 7.0  # Validation.
    assert ends == [102.0, 105.0]


def test_a_repeated_epoch_counts_once(tmp_path):
    log = EpochLog(tmp_path / "history.jsonl")
    assert read(log.path) == []
    log.on_epoch_end(0, {"loss": 3.0})
    log.on_epoch_end(1, {"loss": 2.0})
    log.on_epoch_end(1, {"loss": 2.5, "adapted_loss": 1.0})
    assert read(log.path) == [
        {"epoch": 0, "loss": 3.0},
        {"epoch": 1, "loss": 2.5, "adapted_loss": 1.0},
    ]


def test_a_run_that_starts_over_drops_the_lines_of_an_interrupted_one(tmp_path):
    log = EpochLog(tmp_path / "history.jsonl")
    for epoch in range(4):
        log.on_epoch_end(epoch, {"loss": 3.0})
    again = EpochLog(log.path)
    again.on_train_begin()
    for epoch in (1, 2):  # The run resumes from a backup after the first epoch.
        again.on_epoch_begin(epoch)
        again.on_epoch_end(epoch, {"loss": 2.0})
    assert [row["epoch"] for row in read(log.path)] == [0, 1, 2]
    assert [row["loss"] for row in read(log.path)] == [3.0, 2.0, 2.0]
    again.on_train_begin()
    again.on_epoch_begin(0)
    assert read(log.path) == []


def test_an_incomplete_last_line_is_left_out(tmp_path):
    log = EpochLog(tmp_path / "history.jsonl")
    log.on_epoch_end(0, {"loss": 3.0})
    whole = log.path.read_text()
    log.on_epoch_end(1, {"loss": 2.0})
    log.path.write_text(log.path.read_text()[:-5])
    assert read(log.path) == [{"epoch": 0, "loss": 3.0}]
    log.on_epoch_begin(1)
    assert log.path.read_text() == whole


@pytest.mark.parametrize("bad", ["{", "7", "null", '{"loss": 1.0}', '{"epoch": "x"}'])
def test_a_damaged_line_is_left_out_and_named(tmp_path, caplog, bad):
    log = EpochLog(tmp_path / "history.jsonl")
    for epoch in range(3):
        log.on_epoch_end(epoch, {"loss": 3.0, "seconds": 1.0 + epoch})
    first, _, last = log.path.read_text().splitlines()
    log.path.write_text("\n".join([first, bad, last, ""]))
    assert [row["epoch"] for row in read(log.path)] == [0, 2]
    assert f"{log.path}: line 2 is damaged and left out" in caplog.text
    # A run resumes from such a file.
    watch = Stopwatch(read(log.path))
    watch.on_epoch_begin(3)
    assert watch.seconds == 3.0
    log.on_epoch_begin(3)
    log.on_epoch_end(3, {"loss": 2.0})
    assert [row["epoch"] for row in read(log.path)] == [0, 2, 3]


def test_bytes_that_are_no_text_are_left_out(tmp_path, caplog):
    log = EpochLog(tmp_path / "history.jsonl")
    log.on_epoch_end(0, {"loss": 3.0})
    log.path.write_bytes(b"\xff\xfe\n" + log.path.read_bytes())
    assert read(log.path) == [{"epoch": 0, "loss": 3.0}]
    assert "line 1 is damaged" in caplog.text

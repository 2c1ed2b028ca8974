"""Training time, apart from compilation and from what other callbacks do."""

import time

from maml_keras.history import EpochLog, Stopwatch, read


def test_neither_compilation_nor_other_callbacks_count(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    watch = Stopwatch(already=100.0)
    ends = []
    for epoch in range(2):
        watch.on_epoch_begin(epoch)
        for batch in range(3):
            clock[0] += 50.0 if (epoch, batch) == (0, 0) else 1.0
            watch.on_train_batch_end(batch)
        logs = {}
        watch.on_epoch_end(epoch, logs)
        ends.append(logs["seconds"])
        clock[0] += 7.0  # Validation.
    assert ends == [102.0, 105.0]


def test_an_epoch_that_is_run_again_counts_once(tmp_path):
    log = EpochLog(tmp_path / "history.jsonl")
    assert read(log.path) == []
    log.on_epoch_end(0, {"loss": 3.0})
    log.on_epoch_end(1, {"loss": 2.0})
    log.on_epoch_end(1, {"loss": 2.5, "adapted_loss": 1.0})
    assert read(log.path) == [
        {"epoch": 0, "loss": 3.0},
        {"epoch": 1, "loss": 2.5, "adapted_loss": 1.0},
    ]

"""Training time, apart from compilation and from what other callbacks do."""

import time

from maml_keras.stopwatch import Stopwatch


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

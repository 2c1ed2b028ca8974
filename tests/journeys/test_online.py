"""The examples of streams and of continual learning: their parts, and small runs."""

import importlib
import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf

import maml_keras as mk

pytestmark = pytest.mark.journey

EXAMPLES = pathlib.Path(__file__).parents[2] / "examples"


@pytest.fixture
def part(monkeypatch):
    """Imports an example or one of its parts by name."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    return importlib.import_module


@pytest.fixture
def learners(part):
    return part("online_parts.learners")


@pytest.fixture
def streams(part):
    return part("online_parts.streams")


def small(steps=2, adapt=None, inputs=1, **how):
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(6, activation="tanh"), keras.layers.Dense(1)]
    inner = mk.InnerLoop("mse", mk.SGD(0.02), steps=steps, adapt=adapt)
    return mk.MAML(keras.Sequential([keras.Input([inputs]), *layers]), inner, **how)


def test_transfers_by_hand(part):
    transfer = part("online_parts.transfer").transfer
    matrix = [[0.8, 0.3, 0.2], [0.6, 0.9, 0.4], [0.5, 0.7, 1.0]]
    found = transfer(matrix, [0.1, 0.2, 0.25])
    assert found.average == pytest.approx((0.5 + 0.7 + 1.0) / 3)
    assert found.learned == pytest.approx((0.8 + 0.9 + 1.0) / 3)
    assert found.backward == pytest.approx(((0.5 - 0.8) + (0.7 - 0.9)) / 2)
    assert found.forward == pytest.approx(((0.3 - 0.2) + (0.4 - 0.25)) / 2)
    # Many sequences at once, each with its own numbers.
    many = transfer(np.stack([matrix, np.eye(3)]), np.zeros([2, 3]))
    np.testing.assert_allclose(many.average, [2.2 / 3, 1 / 3])
    np.testing.assert_allclose(many.backward, [-0.25, -1.0])
    np.testing.assert_allclose(many.forward, [0.35, 0.0])


def test_a_stream_jumps_where_it_says(streams):
    drawn = streams.draw(200, 100, seed=3)
    assert drawn.x.shape == drawn.y.shape == (200, 100, 1)
    assert (drawn.since[:, 0] == 0).all()
    grows = drawn.since[:, 1:] == drawn.since[:, :-1] + 1
    assert (grows | (drawn.since[:, 1:] == 0)).all()
    # 19,800 moments with a chance of 1/40 each: a deviation of 22 jumps.
    assert abs((~grows).sum() - 495) < 110
    # Between two jumps, readings lie on one wave: least squares on sin and cos leave
    # noise of 0.1, and a drift of at most 0.01 for each reading.
    waves = 0
    for number in range(200):
        first = np.flatnonzero(drawn.since[number] == 0)
        for start, end in zip(first, [*first[1:], 100]):
            if end - start < 20:
                continue
            waves += 1
            x, y = (v[number, start : start + 20, 0] for v in drawn[:2])
            basis = np.stack([np.sin(x), np.cos(x)], axis=1)
            rest = y - basis @ np.linalg.lstsq(basis, y, rcond=None)[0]
            assert np.sqrt(np.mean(rest**2)) < 0.5
    assert waves > 200


def test_windows_of_meta_training_hold_one_wave_each(streams):
    task, query_y = streams.Windows(queries=4).sample_many([0, 1], 300)
    there = task["support_weight"].numpy()
    assert there.shape == (300, streams.WINDOW)
    known = there.sum(axis=1)
    assert set(known) == set(range(1, streams.WINDOW + 1))
    # Padding is at the end.
    assert (np.diff(there, axis=1) <= 0).all()
    x = np.concatenate([task["support_x"], task["query_x"]], axis=1)[known > 15, :, 0]
    y = np.concatenate([task["support_y"], query_y], axis=1)[known > 15, :, 0]
    for xs, ys in zip(x, y):
        basis = np.stack([np.sin(xs), np.cos(xs)], axis=1)
        rest = ys - basis @ np.linalg.lstsq(basis, ys, rcond=None)[0]
        assert np.sqrt(np.mean(rest**2)) < 0.6
    model = small()
    model.compile("adam", jit_compile=False)
    log = model.fit(
        mk.data.episodes(streams.Windows(), batch_size=4, seed=1),
        steps_per_epoch=2,
        verbose=0,
    )
    assert np.isfinite(log.history["loss"]).all()


def test_steps_side_by_side_are_those_of_adapt(learners, streams):
    maml = small(steps=3)
    steps = learners.Steps(maml, 3)
    drawn = streams.draw(3, 5, seed=0)
    there = np.array([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [0, 0, 0, 0, 0]], bool)
    start = maml.model.get_weights()
    rates = [0.02, 0.05, 0.05]
    found = steps.adapt(steps.start(start, 3), *drawn[:2], there, rates)
    for number, count in ((0, 5), (1, 2)):
        support = (v[number, :count] for v in drawn[:2])
        adapted = maml.adapt(*support, learning_rate=rates[number], verbose=0)
        for ours, theirs in zip(found, adapted.get_weights()):
            # The same float32 operations in another order.
            np.testing.assert_allclose(ours[number], theirs, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(
            steps.answer(found, drawn.x)[number],
            adapted(drawn.x[number]),
            rtol=1e-4,
            atol=1e-5,
        )
    for ours, theirs in zip(found, start):
        np.testing.assert_array_equal(ours[2], theirs)


@pytest.mark.parametrize("goes_on", [False, True])
def test_a_walk_predicts_before_it_learns(learners, streams, goes_on):
    maml = small()
    drawn = streams.draw(2, 6, seed=1)
    how = learners.Walk(0.02, 4, goes_on)
    start = maml.model.get_weights()
    found = learners.walk(learners.Steps(maml, 2), start, drawn, how)
    assert not found.restarts.any()
    # The same with the calls that a user makes, for one stream.
    present = small()
    for t in range(6):
        x, y = (v[1] for v in drawn[:2])
        error = (float(present.model(x[t : t + 1])[0, 0]) - y[t, 0]) ** 2
        assert found.errors[1, t] == pytest.approx(error, rel=1e-3, abs=1e-6)
        window = slice(max(0, t - 3), t + 1)
        if not goes_on:
            present.model.set_weights(start)
        adapted = present.adapt(x[window], y[window], verbose=0)
        present.model.set_weights(adapted.get_weights())


def test_an_oracle_begins_anew_at_a_jump_and_a_detector_after_it(learners, streams):
    maml = small()
    # One value, and then another one for the same input.
    x = np.ones([1, 20, 1], "float32")
    y = np.where(np.arange(20) < 10, 1.0, -3.0).astype("float32")[None, :, None]
    since = np.r_[0:10, 0:10][None]
    drawn = streams.Streams(x, y, since)
    steps, start = learners.Steps(maml, 20), maml.model.get_weights()
    told = learners.Walk(0.1, 20, False, learners.Told())
    errors = learners.walk(steps, start, drawn, told).errors[0]
    # At a jump the oracle is as it was at first, and one reading later it knows.
    before = float(maml.model(x[0, :1])[0, 0])
    assert errors[0] == pytest.approx((before - 1) ** 2, rel=1e-5)
    assert errors[10] == pytest.approx((before + 3) ** 2, rel=1e-5)
    assert errors[11:].max() < 0.1
    found = learners.Walk(0.1, 20, False, learners.Noticed(2, 1.0))
    walked = learners.walk(steps, start, drawn, found)
    # The first reading after the jump gives the jump away. It counts with the last one
    # before the jump, which the next reading throws out.
    assert np.flatnonzero(walked.restarts[0]).tolist() == [10, 11]
    assert walked.errors[0, 12:].max() < 0.1
    never = learners.walk(steps, start, drawn, learners.Walk(0.1, 20, False))
    assert never.errors[0, 13] > 1


def test_settings_are_those_with_the_least_error(learners, streams):
    maml = small()
    both = [learners.Steps(maml, count) for count in (1, 2)]
    drawn, start = streams.draw(2, 12, seed=2), maml.model.get_weights()
    grid = learners.Grid((0.0, 0.01, 0.05), (3, 8), (True, False))
    steps, how = learners.chosen(both, start, drawn, grid)
    means = {
        (tried.count, row): learners.walk(
            tried, start, drawn, grid.walk(row)
        ).errors.mean()
        for tried in both
        for row in grid.rows()
    }
    least = means[steps.count, (*how[:3], 0, 0.0)]
    assert least == pytest.approx(min(means.values()), rel=1e-4)


def test_kernel_ridge_is_its_closed_form(part, streams):
    kernels = part("online_parts.kernels")
    drawn = streams.draw(2, 9, seed=4)
    how = kernels.Ridge(kernels.smooth(1.5), 0.1, 5)
    found = kernels.errors(drawn, how)
    assert found[:, 0] == pytest.approx(drawn.y[:, 0, 0] ** 2)
    x, y = (v[1, :, 0].astype(float) for v in drawn[:2])
    past = slice(2, 7)
    matrix = np.exp(-((x[past, None] - x[None, past]) ** 2) / 4.5)
    weights = np.linalg.solve(matrix + 0.1 * np.eye(5), y[past])
    guess = np.exp(-((x[7] - x[past]) ** 2) / 4.5) @ weights
    assert found[1, 7] == pytest.approx((guess - y[7]) ** 2)
    # Who knows the formula needs few readings.
    told = part("online_parts.learners").Told()
    wave = streams.draw(50, 60, seed=5)
    errors = kernels.errors(wave, kernels.Ridge(kernels.sine, 0.01, 10, told))
    assert np.median(errors[wave.since > 5]) < 0.03


def test_meta_gradients_in_order_are_derivatives(part):
    sequences, order = part("online_parts.sequences"), part("online_parts.in_order")
    batch = next(
        iter(mk.data.episodes(sequences.Waves(sequences.TASKS), batch_size=2, seed=0))
    )
    tasks = sequences.TASKS
    how = {"inputs": 1 + tasks, "meta_gradient": order.InOrder(tasks)}
    maml = small(2 * tasks, mk.last_layer(), **how)
    _, gradients = maml.compute_meta_gradients(batch)

    # The same by hand: two steps on each task, one task after the other.
    variables = maml.model.trainable_variables
    (task, query_y), total, starts = batch, 0.0, []
    with tf.GradientTape() as tape:
        for number in range(2):
            weights = [tf.convert_to_tensor(v.value) for v in variables]
            tape.watch(weights)

            def answer(weights, x):
                return tf.tanh(x @ weights[0] + weights[1]) @ weights[2] + weights[3]

            first = list(weights)
            for k in range(2 * tasks):
                rows = slice(k // 2 * sequences.EXAMPLES, (k // 2 + 1) * 20)
                x, y = (task[f"support_{v}"][number, rows] for v in "xy")
                with tf.GradientTape() as inner:
                    inner.watch(weights[2:])
                    loss = tf.reduce_mean((answer(weights, x) - y) ** 2)
                steps = inner.gradient(loss, weights[2:])
                moved = [w - 0.02 * g for w, g in zip(weights[2:], steps)]
                weights = [*weights[:2], *moved]
            wrong = answer(weights, task["query_x"][number]) - query_y[number]
            total += tf.reduce_mean(wrong**2) / 2
            starts.append(first)
    expected = tape.gradient(total, starts)
    for ours, *theirs in zip(gradients, *expected):
        np.testing.assert_allclose(ours, sum(theirs), rtol=1e-3, atol=1e-5)


def test_sequences_are_learned_task_by_task(part, learners):
    sequences = part("online_parts.sequences")
    drawn = sequences.draw(3, seed=1)
    tasks = sequences.TASKS
    assert drawn.x.shape == (3, tasks, sequences.EXAMPLES, 1 + tasks)
    # Each task's inputs say which task is asked.
    np.testing.assert_array_equal(drawn.x[0, :, 5, 1:], np.eye(tasks))
    maml = small(inputs=1 + tasks)
    steps, start = learners.Steps(maml, 5), maml.model.get_weights()
    how = {"rate": 0.02, "calls": 2}
    alone = sequences.learn(steps, start, drawn, **how)
    kept = sequences.learn(steps, start, drawn, **how, keep=5)
    copies = sequences.copies(steps, start, drawn, **how)
    # Up to the first task, all of them do the same.
    np.testing.assert_allclose(alone[:, 0, 0], kept[:, 0, 0], rtol=1e-4)
    np.testing.assert_allclose(alone[:, 0, 0], copies[:, 0, 0], rtol=1e-4)
    assert not np.allclose(alone[:, 1], kept[:, 1])
    # A copy of a task forgets nothing, and learns nothing for later tasks.
    found = part("online_parts.transfer").transfer(
        copies, sequences.errors(steps, steps.start(start, 3), drawn)
    )
    np.testing.assert_array_equal(found.backward, 0)
    np.testing.assert_allclose(found.forward, 0, atol=1e-6)
    adapted = maml.adapt(drawn.x[1, 2], drawn.y[1, 2], steps=10, verbose=0)
    wrong = adapted(drawn.query_x[1, 2]) - drawn.query_y[1, 2]
    assert copies[1, 5, 2] == pytest.approx(np.mean(wrong**2), rel=1e-3)


@pytest.mark.slow
def test_a_small_stream_is_walked_and_drawn(part, tmp_path, capsys):
    how = ["--meta-steps", "2", "--seeds", "2", "--streams", "3", "--time", "40"]
    found = part("online_stream").main([*how, "--out", str(tmp_path)])
    assert len(found) == 18
    assert all(np.shape(errors) == (2, 3, 40) for errors in found.values())
    assert all(np.isfinite(errors).all() for errors in found.values())
    assert (tmp_path / "online_stream.png").exists()
    printed = capsys.readouterr().out
    assert all(f"| {name} | " in printed for name in found)


@pytest.mark.slow
def test_small_sequences_are_learned_and_drawn(part, tmp_path, capsys):
    how = ["--meta-steps", "2", "--seeds", "2", "--sequences", "3"]
    found = part("continual_tasks").main([*how, "--out", str(tmp_path)])
    assert len(found) == 12
    assert all(np.shape(rows) == (2, 3, 6, 6) for rows in found.values())
    assert all(np.isfinite(rows).all() for rows in found.values())
    assert (tmp_path / "continual_tasks.png").exists()
    printed = capsys.readouterr().out
    assert all(f"| {name} | " in printed for name in found)

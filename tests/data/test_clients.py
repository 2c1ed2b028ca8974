"""Tasks of people and devices: own examples only, rounds of different clients."""

import numpy as np
import pytest
import tensorflow as tf

from maml_keras.data import Clients, episodes

SIZES = {"anna": 4, "bert": 7, "carl": 5, "dora": 9}


def arrays():
    """Example i of client c is `100 c + i`; its target is the negative of it."""
    owner = np.concatenate([[c] * n for c, n in enumerate(SIZES.values())])
    row = np.concatenate([np.arange(n) for n in SIZES.values()])
    x = (100.0 * owner + row)[:, None]
    order = np.random.default_rng(0).permutation(len(x))  # No client in one piece.
    return x[order], -x[order], np.array(list(SIZES))[owner][order]


def family(**options):
    return Clients(*arrays(), **{"shots": 2, "queries": 2, **options})


def test_a_task_holds_different_examples_of_one_client():
    people = family()
    assert people.names == tuple(SIZES)
    assert people.counts.tolist() == list(SIZES.values())
    task, query_y = people.sample_many([0, 1], 200)
    x = np.concatenate([task["support_x"], task["query_x"]], axis=1)[..., 0]
    assert all(len(set(r)) == 4 for r in x.tolist())
    assert (x // 100 == x[:, :1] // 100).all()
    np.testing.assert_array_equal(query_y, -task["query_x"])
    np.testing.assert_array_equal(task["support_y"], -task["support_x"])
    assert "support_weight" not in task


def test_draws_are_uniform_over_clients_and_examples():
    task, _ = family(shots=1, queries=1).sample_many([3, 1], 8000)
    names, counts = np.unique(task["support_x"].numpy(), return_counts=True)
    owner = (names // 100).astype(int)
    expected = 2000 / np.array(list(SIZES.values()))[owner]
    assert len(names) == sum(SIZES.values())
    # Binomial counts of at most 500: the standard deviation is below 23.
    assert abs(counts - expected).max() < 4 * 23


def test_rest_takes_all_that_a_client_has_and_marks_padding():
    task, query_y = family(shots="rest", queries=1).sample_many([0, 1], 50)
    assert task["support_x"].shape == (50, 8, 1)
    rows = zip(task["support_x"][..., 0].numpy(), task["support_weight"].numpy())
    for (x, there), query in zip(rows, -query_y[..., 0].numpy()):
        owner = int(query[0] // 100)
        size = list(SIZES.values())[owner]
        own = {100.0 * owner + i for i in range(size)}
        assert {*x[there == 1].tolist(), *query.tolist()} == own
        assert there.sum() == size - 1
        assert set(x[there == 0]) <= own  # Padding is of the client, too.


def test_a_round_has_different_clients():
    people = family(per_round=3)
    batches = episodes(people, batch_size=3, seed=1, num_episodes=150)
    owners = [tuple((y[:, 0, 0].numpy() // -100).astype(int)) for _, y in batches]
    assert all(len(set(o)) == 3 for o in owners)
    # Each of the four sets of three comes in a quarter of 50 rounds, and rounds differ.
    _, counts = np.unique(np.sort(owners), axis=0, return_counts=True)
    assert len(counts) == 4
    assert abs(counts - 12.5).max() < 4 * 3.1
    everyone = family(per_round=4)
    for _, y in episodes(everyone, batch_size=4, seed=1, num_episodes=8):
        assert len(set((y[:, 0, 0].numpy() // -100).tolist())) == 4


def test_an_episode_depends_on_seed_and_index_alone():
    people = family(per_round=3)
    assert people.chunk % 3 == 0
    whole = [y for _, y in episodes(people, batch_size=50, seed=5, num_episodes=100)]
    whole = np.concatenate(whole)
    later = next(iter(episodes(people, batch_size=7, seed=5, start=64)))[1]
    np.testing.assert_array_equal(later, whole[64:71])
    # Odd counts, too, for which the last round is cut.
    assert family(per_round=3).sample_many([0, 1], 4)[1].shape[0] == 4


def test_many_examples_a_client_are_planned_a_round_at_a_time():
    x = np.zeros([300_004, 1], "float32")
    owner = np.repeat(["a", "b"], [300_000, 4])
    assert Clients(x, x, owner, shots=1, queries=1, per_round=2).chunk == 2 * 6


def test_images_and_several_inputs_are_gathered_as_in_pools():
    images = np.full([4, 2, 2, 1], 255, np.uint8)
    x = {"image": images, "age": np.arange(4)[:, None]}
    people = Clients(x, np.arange(4), list("aabb"), shots=1, queries=1)
    task, query_y = people.sample([0, 1])
    assert task["support_x"]["image"].numpy().max() == 1.0
    assert task["query_x"]["age"][0, 0] == query_y[0]
    assert query_y.dtype.is_integer


def test_what_does_not_fit_is_refused():
    x, y, owner = arrays()
    with pytest.raises(ValueError, match="one client for each example of `x`. .* 25"):
        Clients(x, y, owner[:-1], shots=1, queries=1)
    with pytest.raises(ValueError, match="example of `y`. .*for 3 examples"):
        Clients(x, y[:3], owner, shots=1, queries=1)
    with pytest.raises(ValueError, match="5 examples. Received: 4 for client 'anna'"):
        family(shots=3)
    with pytest.raises(ValueError, match="per_round=5 for 4 clients"):
        family(per_round=5)
    with pytest.raises(ValueError, match="`shots` must be an integer of at least 1"):
        family(shots=0)
    with pytest.raises(ValueError, match="must name a client. Received: no examples"):
        Clients(x[:0], y[:0], owner[:0], shots=1, queries=1, per_round=1)
    with pytest.raises(ValueError, match="`y` must be finite. Received: 25 NaN"):
        Clients(x, np.full(25, np.nan), owner, shots=1, queries=1)
    with pytest.raises(ValueError, match="`x` must be numeric. Received: dtype <U"):
        Clients(owner, y, owner, shots=1, queries=1)


def test_the_plan_runs_in_a_graph():
    people = family(shots="rest", queries=1, per_round=2)
    plan = tf.function(lambda seed: people.plan(seed, 4), autograph=False)([0, 1])
    np.testing.assert_array_equal(plan["rows"], people.plan([0, 1], 4)["rows"])

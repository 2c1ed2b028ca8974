"""`WithoutReplacement`: each class and example at most once in an epoch."""

import numpy as np
import pytest

from maml_keras.data import NWayKShot, Sinusoid, WithoutReplacement, episodes
from tests.data.test_few_shot import chi_square, draw, numbered

SIZES = [7, 6, 9, 6, 6, 8, 6]  # Two rounds of 3 examples; 3 tasks of 2 classes each.


def family(sizes=SIZES, ways=2):
    return WithoutReplacement(NWayKShot(numbered(sizes), ways=ways, shots=1, queries=2))


def test_an_epoch_has_each_example_at_most_once_and_each_class_once_a_round():
    tasks = family()
    assert tasks.epoch == 6
    got = draw(tasks, 6 * 300)
    rows = np.concatenate([got["support_x"], got["query_x"]], axis=1)[..., 0]
    classes = np.repeat(np.arange(7), SIZES)[rows]
    left_out = []
    for epoch in rows.reshape(300, -1):
        assert len(set(epoch.tolist())) == 6 * 6
    for a_round in classes.reshape(600, -1):
        counts = np.bincount(a_round, minlength=7)
        assert sorted(counts) == [0] + [3] * 6
        left_out.append(counts.argmin())
    assert chi_square(np.bincount(left_out, minlength=7)) < 4
    # Labels and the order of both sets are random, as in the family itself.
    for part in ("support_y", "query_y"):
        assert chi_square(np.bincount(got[part][:, 0])) < 20


def test_all_examples_are_used_if_they_divide():
    got = draw(family([6] * 4), 4)
    rows = np.concatenate([got["support_x"], got["query_x"]], axis=1)
    assert sorted(rows.ravel().tolist()) == list(range(24))


def test_a_stream_resumes_in_the_midst_of_an_epoch():
    def rows(**how):
        stream = episodes(family(), batch_size=4, seed=1, num_episodes=20, **how)
        return np.concatenate([task["support_x"] for task, _ in stream])

    whole = rows()
    np.testing.assert_array_equal(whole[9:], rows(start=9))
    assert (whole[:6] != whole[6:12]).any()  # Another order in each epoch.


def test_what_cannot_be_cut_evenly_is_refused():
    with pytest.raises(ValueError, match="`tasks` must be an NWayKShot"):
        WithoutReplacement(Sinusoid())
    drawn = NWayKShot(numbered(SIZES), ways=(2, 3), shots=1, queries=1)
    with pytest.raises(ValueError, match="whole numbers for `ways`"):
        WithoutReplacement(drawn)
    assert family().distinct_tasks() == family().tasks.distinct_tasks()

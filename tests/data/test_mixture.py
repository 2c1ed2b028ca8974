"""`Mixture`: the shares of the families, and the tasks of each unchanged."""

import numpy as np
import pytest

from maml_keras.data import Mixture, NWayKShot, Sinusoid, episodes
from tests.data.test_few_shot import draw, five_sigma, numbered


def families():
    sizes = {"ways": 2, "shots": 1, "queries": 2}
    return [
        NWayKShot(numbered([5] * 3), **sizes),
        NWayKShot(numbered([5] * 9), **sizes),
    ]


def test_ten_thousand_tasks_have_the_asked_shares():
    n = 10_000
    got = draw(Mixture(families(), weights=[1, 3]), n)
    rows = np.concatenate([got["support_x"], got["query_x"]], axis=1)[..., 0]
    assert (np.diff(np.sort(rows, axis=1), axis=1) > 0).all()
    # Both classes below 3: always in the first family, else in 3 of 36 pairs.
    low = (rows < 15).all(axis=1).mean()
    expected = 0.25 + 0.75 * 3 / 36
    np.testing.assert_allclose(low, expected, atol=five_sigma(expected, n))
    for part in ("support_y", "query_y"):
        share = (got[part][:, 0] == 1).mean()
        np.testing.assert_allclose(share, 0.5, atol=five_sigma(0.5, n))


def test_each_task_is_whole_in_a_pipeline_and_its_number_is_the_sum():
    mixture = Mixture([Sinusoid(x=(0.0, 1.0)), Sinusoid(x=(2.0, 3.0))])
    for task, query_y in episodes(mixture, batch_size=5, seed=1, num_episodes=12):
        assert task["support_x"].shape[1:] == (10, 1) == query_y.shape[1:]
        both = np.concatenate([task["support_x"], task["query_x"]], axis=1)[..., 0]
        assert ((both < 1.5).all(axis=1) | (both > 1.5).all(axis=1)).all()
    assert mixture.distinct_tasks() is None
    one, other = families()
    total = one.distinct_tasks() + other.distinct_tasks()
    assert Mixture([one, other]).distinct_tasks() == total


def test_class_numbers_mean_the_same_class_in_every_task():
    one, other = families()  # Examples of class c are 5 c ... 5 c + 4.
    again = NWayKShot(one.pool, ways=2, shots=1, queries=2)
    tasks, count = Mixture([one, other, again]).class_numbers()
    assert count == 3 + 9
    got = draw(tasks, 300)
    for x, y in (("support_x", "support_y"), ("query_x", "query_y")):
        classes, labels = got[x][..., 0] // 5, got[y]
        mine = (labels < 3).all(axis=1)
        np.testing.assert_array_equal(labels[mine], classes[mine])
        np.testing.assert_array_equal(labels[~mine], classes[~mine] + 3)
        assert 0.55 < mine.mean() < 0.78  # Two of three families.


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([Sinusoid()],), "`families` must be two or more"),
        (([Sinusoid(), 3],), "`families` must be two or more"),
        (([Sinusoid(), Sinusoid(shots=5)],), r"`support_x` \[10, 1\] float32 from"),
        (([Sinusoid(), Sinusoid()], [1, 0]), "`weights` must be one positive number"),
        (([Sinusoid(), Sinusoid()], [1]), "`weights` must be one positive number"),
    ],
)
def test_what_does_not_fit_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Mixture(arguments[0], weights=arguments[1] if len(arguments) > 1 else None)


def test_a_family_with_padding_and_one_without_do_not_mix():
    one, _ = families()
    drawn = NWayKShot(numbered([5] * 3), ways=2, shots=(1, 2), queries=2)
    with pytest.raises(ValueError, match="`query_weight` missing from"):
        Mixture([one, drawn])

"""A network is not tested on classes of its training under another preset's name."""

import numpy as np
import pytest

from maml_keras import data
from maml_keras.experiments import registry
from maml_keras.experiments.other_tasks import check_unseen
from maml_keras.experiments.preset import Families


def pool(names, seed):
    x = np.random.default_rng(seed).random([len(names) * 6, 4, 4, 1]).astype("float32")
    y = np.repeat(list(names), 6)
    return data.from_arrays(x, y)


def families(train, test, *, seed=0, shots=1):
    pools = pool(train, seed), pool(["v", "w"], seed + 1), pool(test, seed + 2)
    return Families(*(data.NWayKShot(p, ways=2, shots=shots, queries=1) for p in pools))


def test_other_shots_of_the_same_split_are_fair():
    one, five = (families("abc", "de", shots=shots) for shots in (1, 5))
    for on in ("validation", "test"):
        check_unseen(one, five, on=on)


def test_classes_of_another_split_are_named():
    other = families("bde", "ac", seed=10)
    with pytest.raises(ValueError, match="2 class names .* such as 'a'.* same way"):
        check_unseen(families("abc", "de"), other, on="test")
    check_unseen(families("abc", "de"), other, on="validation")


def test_the_same_examples_under_other_names_are_found():
    one, other = families("abc", "de"), families("fg", "hij")
    other = other._replace(
        test=data.NWayKShot(pool("hij", 0), ways=2, shots=1, queries=1)
    )
    with pytest.raises(ValueError, match="trained on. Received: .*in test"):
        check_unseen(one, other, on="test")


def test_families_without_classes_pass():
    sinusoids = registry.get("sinusoid").families()
    check_unseen(sinusoids, sinusoids, on="test")

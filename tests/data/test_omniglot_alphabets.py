"""The table of alphabets adds up to what Omniglot's author publishes."""

import pytest

from maml_keras.data import omniglot_alphabets as table


def test_the_counts_are_those_of_the_author():
    # https://github.com/brendenlake/omniglot: 1623 characters, 964 in 30 background
    # alphabets.
    assert (len(table.BACKGROUND), sum(table.BACKGROUND.values())) == (30, 964)
    assert (len(table.CHARACTERS), sum(table.CHARACTERS.values())) == (50, 1623)
    small = table.alphabets_of("small1+small2")
    # The papers' small presets have 242 characters.
    assert sum(table.CHARACTERS[name] for name in small) == 242
    assert sum(table.CHARACTERS[name] for name in table.SMALL1) == 136
    assert sum(table.CHARACTERS[name] for name in table.SMALL2) == 156
    assert set(small) <= set(table.BACKGROUND)


def test_an_unknown_split_is_refused():
    with pytest.raises(ValueError, match=r"sum of train, .* Received: 'train\[:10\]'"):
        table.alphabets_of("train[:10]")

"""The table of a search names the best trial, the diverged ones and the edges."""

import math

import pytest

from maml_keras.experiments import registry, search_space, trials
from maml_keras.experiments.trials import Outcome
from maml_keras.experiments.tuned import Tuned, best_of


def outcome(rate, end, epochs, score):
    return Outcome({"inner_rate": rate}, end, epochs, score, score, 0.01, 0)


OUTCOMES = [
    outcome(0.01, trials.FINISHED, 20, 0.7),
    outcome(0.98, trials.FINISHED, 20, 0.9),
    # A short training that looks better is no whole training.
    outcome(0.50, trials.FINISHED, 7, 0.95),
    outcome(0.02, trials.STOPPED, 10, 0.2),
    outcome(0.99, trials.DIVERGED, 20, -math.inf),
]


def tuned(higher=True):
    space = search_space.read("inner_rate=0.01:1", "maml")
    preset = registry.get("sinusoid")
    metric = "accuracy" if higher else "loss"
    return Tuned(preset, OUTCOMES, space, metric, higher, 20, 100)


def test_the_best_is_the_best_whole_training():
    assert tuned().best == OUTCOMES[1]
    assert tuned(higher=False).best == OUTCOMES[0]


def test_the_table_has_every_trial_with_the_diverged_ones_last():
    rows = tuned().table().splitlines()[2:]
    assert [row.split()[1] for row in rows] == ["0.98", "0.01", "0.5", "0.02", "0.99"]
    assert rows[-1].endswith("| diverged |")
    assert "90.00%" in rows[0]


def test_the_text_counts_and_names_the_edge():
    text = str(tuned())
    assert "best of 5 trials: inner_rate 0.98, accuracy 90.00% ± 1.00%" in text
    assert "1 trials were stopped early, 1 diverged" in text
    assert "inner_rate is near its highest value 1" in text
    assert "lowest value 0.01" in str(tuned(higher=False))


def test_without_a_whole_training_there_is_no_best():
    with pytest.raises(ValueError, match="3 trials, of which 1 diverged"):
        best_of(OUTCOMES[2:], 20, higher=True)

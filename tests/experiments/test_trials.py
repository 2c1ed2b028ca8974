"""Trials are judged, stopped, continued and written as stated."""

import itertools
import math

import numpy as np
import pytest
from test_tuning import PLANTED, SLOPES, NeverUsed, Slopes

from maml_keras.evaluation.result import Evaluation
from maml_keras.experiments import runs, trials
from maml_keras.experiments.preset import Families
from maml_keras.experiments.trials import Outcome, Training

WHOLE = Outcome({"steps": 1}, trials.FINISHED, 20, 1.0, 1.0, 0.1, 0)


def evaluation(metric, values, diverged):
    better = metric == "accuracy"
    return Evaluation(metric, np.array(values), np.array(diverged), "layer", 5, better)


def test_a_diverged_task_counts_as_the_best_that_it_could_be():
    lost = [[False, False], [False, True]]
    accuracy = evaluation("accuracy", [[0.2, 0.8], [0.2, 0.6]], lost)
    assert trials.score(accuracy) == pytest.approx(0.4)
    loss = evaluation("loss", [[1.0, 0.5], [3.0, math.nan]], lost)
    assert trials.score(loss) == pytest.approx((0.5 + 100 * 2.0) / 2)
    # The limit has no meaning for a negative loss.
    negative = evaluation("loss", [[-1.0, -2.0], [-1.0, math.nan]], lost)
    assert trials.score(negative) == math.inf


def test_without_diverged_tasks_the_score_is_the_mean():
    none = np.zeros([2, 2], bool)
    assert trials.score(evaluation("loss", [[1, 2.0], [1, 4.0]], none)) == 3.0


@pytest.mark.parametrize("higher", [False, True])
def test_bad_is_worse_than_the_median_of_the_earlier_at_that_epoch(higher):
    sign = -1.0 if higher else 1.0
    # At epoch 3 the scores are 1, 2, 4 and, of a trial that had ended, 9. What the
    # trials reached later does not count.
    curves = [[5.0, 5.0, v, 0.1] for v in (1.0, 2.0, 4.0)] + [[9.0]]
    earlier = [[sign * v for v in curve] for curve in curves]

    def bad(score, known=earlier):
        return trials.is_worse_than_half(sign * score, known, 3, higher=higher)

    assert not bad(2.9)
    assert not bad(3.0)  # The median of 1, 2, 4, 9.
    assert bad(3.1)
    assert not bad(99.0, earlier[:3])  # Three say too little.


def test_an_outcome_is_written_and_read(tmp_path):
    assert trials.read(tmp_path) is None
    lost = Outcome({"inner_rate": 0.1}, trials.DIVERGED, 2, math.inf, 3.0, 0.5, 9)
    trials.write(tmp_path, lost)
    assert trials.read(tmp_path) == lost
    assert lost.row()["score"] is None
    (tmp_path / trials.OUTCOME).write_text('{"end": "finished"}')
    with pytest.raises(ValueError, match="must hold changes, diverged_tasks, end"):
        trials.read(tmp_path)


def test_a_diverged_trial_ends_with_the_worst_score(tmp_path):
    (tmp_path / runs.HISTORY).write_text('{"epoch": 0, "score": 2.0}\n')
    lost = Outcome({}, trials.DIVERGED, 1, math.inf, 2.0, 0.5, 9)
    assert trials.scores(tmp_path, lost, higher=False) == [2.0, math.inf]
    assert trials.scores(tmp_path, lost, higher=True) == [2.0, -math.inf]
    assert trials.scores(tmp_path, WHOLE, higher=False) == [2.0]


def test_a_trial_continues_from_a_copy_of_another(tmp_path):
    before, after = tmp_path / "before", tmp_path / "after"
    (before / runs.BACKUP).mkdir(parents=True)
    (before / runs.BACKUP / "weights").write_text("w")
    (before / runs.HISTORY).write_text("h")
    after.mkdir()
    trials.continue_from(after, before)
    assert (after / runs.BACKUP / "weights").read_text() == "w"
    assert (after / runs.HISTORY).read_text() == "h"
    # What the trial has trained since stays.
    (after / runs.HISTORY).write_text("more")
    trials.continue_from(after, before)
    assert (after / runs.HISTORY).read_text() == "more"


def training():
    families = Families(Slopes(), Slopes(), NeverUsed())
    return Training(SLOPES, "maml", families, 6, 1, 0, 10)


@pytest.fixture
def trained(tmp_path):
    """Trains a trial into a new folder."""
    numbers = itertools.count()

    def run(rate, epochs, is_bad=lambda epochs, score: False, folder=None):
        if folder is None:
            folder = tmp_path / str(next(numbers))
            folder.mkdir()
        outcome = training().run(
            {"inner_rate": rate},
            folder,
            epochs=epochs,
            is_bad=is_bad,
            higher_is_better=False,
        )
        return outcome, folder

    return run


@pytest.mark.journey
@pytest.mark.usefixtures("tasks_in_a_loop", "without_graphs")
def test_a_bad_trial_stops_and_a_diverged_one_is_not_hidden(trained):
    stopped, folder = trained(0.1, 6, is_bad=lambda epochs, score: epochs == 2)
    assert (stopped.end, stopped.epochs) == (trials.STOPPED, 2)
    assert stopped.score == runs.history(folder)[-1]["score"]
    lost, _ = trained(20.0, 6)
    assert (lost.end, lost.epochs, lost.diverged_tasks) == (trials.DIVERGED, 1, 10)
    assert lost.score == math.inf
    # So far that the numbers of the first meta-step are not finite.
    lost, _ = trained(1e30, 6)
    assert (lost.end, lost.epochs, lost.score) == (trials.DIVERGED, 0, math.inf)
    best, _ = trained(PLANTED, 6)
    assert (best.end, best.epochs) == (trials.FINISHED, 6)
    assert best.score == pytest.approx(0.0, abs=1e-10)


@pytest.mark.journey
@pytest.mark.usefixtures("tasks_in_a_loop", "without_graphs")
def test_a_continued_trial_equals_an_uninterrupted_one(trained):
    whole, _ = trained(0.1, 4)
    part, folder = trained(0.1, 2)
    assert part.epochs == 2
    (folder / trials.OUTCOME).unlink()
    again, _ = trained(0.1, 4, folder=folder)
    assert again == whole

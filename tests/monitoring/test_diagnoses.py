"""Each diagnosis finds its own problem, and none finds one in a healthy run."""

import dataclasses

import numpy as np
import pytest

import maml_keras as mk
from maml_keras.evaluation.trace import InnerTrace
from maml_keras.monitoring.look import LearnedRates, Look

LAYERS = ("net/conv", "net/head")
TASKS = 100


def look(
    means=(2.0, 0.5, 0.4),
    *,
    support=None,
    accuracy=None,
    gradients=(1.0, 1.0),
    rates=None,
    tasks=TASKS,
    blank=True,
    trained=2,
    lost=0,
):
    """A look at tasks whose loss at each step is around `means`."""
    random = np.random.default_rng(0)
    hardness = random.uniform(0.5, 1.5, [tasks, 1])
    noise = random.uniform(0.98, 1.02, [tasks, len(means)])
    query = hardness * noise * np.asarray(means)
    query[:lost, 1:] = np.nan
    support = query.copy() if support is None else hardness * noise * np.array(support)
    metric = query
    if accuracy is not None:  # 25 queries a task.
        metric = random.binomial(25, accuracy, [tasks, len(means)]) / 25
    steps = len(means) - 1
    trace = InnerTrace(
        metric="loss" if accuracy is None else "accuracy",
        query_loss=query,
        support_loss=support,
        query_metric=metric,
        support_metric=metric,
        gradient_norms=np.broadcast_to(gradients, [tasks, steps, 2]),
        update_norms=np.ones([tasks, steps, 2]),
        layers=LAYERS,
        chance=None if accuracy is None else 0.2,
        queries=25,
        batch_norm="transductive",
        examples={},
    )
    if rates is not None:
        table = np.atleast_2d(rates)
        rates = LearnedRates(LAYERS, table, np.full(table.shape, 0.1), {})
    return Look(1000, {"validation": trace}, rates, trained, blank)


def found(*looks):
    """The titles of all findings, after each look."""
    titles = []
    for end in range(1, len(looks) + 1):
        for diagnosis in mk.diagnoses.all_diagnoses():
            finding = diagnosis(looks[:end])
            titles += [] if finding is None else [finding.title]
    return list(dict.fromkeys(titles))


def test_a_healthy_run_has_no_findings():
    accuracies = [[0.2, 0.8, 0.9]] * 30
    healthy = [look(accuracy=a, rates=[0.2, -0.05]) for a in accuracies]
    assert found(*healthy) == []
    assert found(*[look()] * 5) == []


def test_a_leak_of_labels_is_found():
    [title] = found(look(accuracy=[0.3, 0.8, 0.9]))
    assert title == "Labels leak"
    text = str(mk.diagnoses.LabelLeak()([look(accuracy=[0.3, 0.8, 0.9])]))
    assert "validation tasks" in text
    assert "; a guess has 20.0%" in text


def test_luck_on_few_tasks_or_a_prototypical_head_is_not_a_leak():
    lucky = look(accuracy=[0.5, 0.8, 0.9], tasks=5)
    assert found(lucky) == []
    assert found(look(accuracy=[0.5, 0.8, 0.9], blank=False)) == []


def test_chance_is_never_found_as_a_leak_in_a_thousand_looks():
    leak = mk.diagnoses.LabelLeak()
    base = look(accuracy=[0.2, 0.8, 0.9]).traces["validation"]
    random = np.random.default_rng(1)
    for _ in range(1000):
        accuracy = random.binomial(25, 0.2, [TASKS, 3]) / 25
        trace = InnerTrace(**{**vars(base), "query_metric": accuracy})
        assert leak([Look(1, {"train": trace})]) is None


def test_tasks_that_training_left_out_are_found():
    [title] = found(dataclasses.replace(look(), bad_tasks=3))
    assert title == "Training tasks are left out"


def test_adaptation_that_does_not_help_is_found():
    idle = look([2.0, 1.999, 1.998])
    assert found(idle, idle) == []  # The gain may begin late.
    assert found(idle, idle, idle) == ["Adaptation does not help"]
    hardly = look([2.0, 1.9999, 1.9999])
    assert found(hardly, hardly, hardly) == ["Adaptation does not help"]
    assert found(idle, idle, look()) == []


def test_a_gain_in_the_last_inner_step_counts():
    assert found(*[look([2.0, 1.999, 1.0])] * 4) == []


def test_idle_steps_after_the_first_are_found():
    idle = look([2.0, 0.5, 0.4999])
    assert found(idle, idle, idle) == ["Steps after the first do nothing"]
    # Steps beyond those of training are not judged.
    assert found(*[look([2.0, 0.5, 0.4999], trained=1)] * 3) == []


def test_later_steps_are_not_idle_if_no_step_surely_gains():
    base = look([2.0, 1.9, 2.1]).traces["validation"]
    loss = np.random.default_rng(1).uniform([0, 0, 0.5], [4, 4, 4.5], [TASKS, 3])
    trace = InnerTrace(**{**vars(base), "query_loss": loss})
    looks = [Look(1000, {"validation": trace}, None, 2, True)] * 3
    assert mk.diagnoses.IdleSteps()(looks) is None


def test_steps_that_raise_the_support_loss_are_found():
    uphill = look([2.0, 1.9, 1.8], support=[2.0, 3.0, 4.0])
    assert found(uphill) == []
    assert "The inner rate is too large" in found(uphill, uphill)
    text = str(mk.diagnoses.RateTooLarge()([uphill, uphill]))
    assert "raise the loss of the support set" in text


def test_diverged_tasks_are_found():
    assert found(*[look(lost=1)] * 3) == []
    assert found(*[look(lost=5)] * 2) == ["The inner rate is too large"]
    assert found(look(lost=TASKS)) == ["The inner rate is too large"]


def test_a_learned_rate_that_runs_away_is_found():
    rising = [look(rates=[0.1, r]) for r in (0.1, 0.5, 1.2, 3.0)]
    assert found(*rising[:2]) == []
    assert found(*rising) == ["A learned inner rate runs away"]
    text = str(mk.diagnoses.RunawayRate()(rising))
    assert "'net/head' was 0.1, and is 3 after" in text
    steps = [look(rates=[[0.1, 0.1], [0.1, r]]) for r in (0.1, 0.5, 1.2, 3.0)]
    text = str(mk.diagnoses.RunawayRate()(steps))
    assert "'net/head' at inner step 2 was 0.1, and is 3 after" in text
    assert found(look(rates=[np.nan, 0.1])) == ["A learned inner rate runs away"]
    # The rate began too small, and the loss falls while the rate rises.
    useful = [
        look([2.0, 1.5 / r, 1.0 / r], rates=[0.1, 0.1 * r]) for r in (1, 4, 12, 30)
    ]
    assert found(*useful) == []
    # The rate is large but does not grow.
    assert found(*[look(rates=[0.1, 1.5])] * 5) == []


def test_a_vanished_gradient_is_found_with_its_layer():
    dead = look(gradients=(0.0, 0.3))
    assert found(dead) == []
    assert found(dead, dead) == ["An inner gradient vanished"]
    text = str(mk.diagnoses.VanishedGradient()([dead, dead]))
    assert "'net/conv'" in text
    assert "'net/head'" not in text
    assert found(*[look(gradients=(1e-4, 1.0))] * 3) == []  # Small, not vanished.


def test_diverged_tasks_do_not_count_for_vanished_gradients():
    vanished = mk.diagnoses.VanishedGradient()
    for lost_norm in (1e9, np.nan):
        healthy, dead = np.ones([2, TASKS, 2, 2])
        dead[..., 0] = 0.0
        for norms in (healthy, dead):
            norms[:3, :, 1] = lost_norm
        healthy, dead = look(gradients=healthy, lost=3), look(gradients=dead, lost=3)
        assert vanished([healthy, healthy]) is None
        assert "'net/conv'" in str(vanished([dead, dead]))


def trained(means, *, progress=1.0, accuracy=None, bar=(2.0, 1.0, 0.9), worse=3.0):
    """A look with two networks without meta-training; `bar` is the better one."""
    references = {
        name: look(values, accuracy=accuracy and [0.2, 0.5, 0.5])
        for name, values in {"a worse one": [worse] * 3, "the better one": bar}.items()
    }
    return dataclasses.replace(
        look(means, accuracy=accuracy),
        references={n: r.traces["validation"] for n, r in references.items()},
        progress=progress,
    )


def test_a_network_that_is_no_better_than_an_untrained_one_is_found():
    title = "No better than without meta-training"
    same = [trained([2.0, 1.0, 0.9])] * 5
    assert found(*same[:4]) == []
    assert found(*same) == [title]
    text = str(mk.diagnoses.NoBetterThanUntrained()(same))
    assert "the better one has 0.9" in text
    assert found(*[trained([2.0, 1.2, 1.1])] * 5) == [title]
    assert found(*[trained([2.0, 1.0, 0.5])] * 5) == []
    # It still falls, or the run is not half over, or training began elsewhere.
    falling = [trained([2.0, 1.5, loss]) for loss in (1.4, 1.3, 1.2, 1.1, 1.0)]
    assert found(*falling) == []
    assert found(*[trained([2.0, 1.0, 0.9], progress=0.4)] * 5) == []
    assert found(*[look([2.0, 1.0, 0.9])] * 5) == []
    # A confident network may have a high loss and a higher accuracy.
    assert found(*[trained([2.0, 1.0, 0.95], accuracy=[0.2, 0.8, 0.9])] * 5) == []


@pytest.mark.parametrize(
    "diagnosis", mk.diagnoses.all_diagnoses(), ids=lambda it: type(it).__name__
)
def test_every_remedy_is_a_sentence(diagnosis):
    assert diagnosis.remedy.endswith(".")

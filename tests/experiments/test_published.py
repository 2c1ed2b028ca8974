"""Slow training proofs: train again and reach the figures of docs/comparisons.md."""

import json
import os
import time

import pytest

from maml_keras.experiments import comparing, fixed_tasks, registry, runs

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


def test_sinusoid_full_protocol_reaches_the_published_shape(tmp_path):
    preset = registry.get("sinusoid")
    maml = runs.train(preset, tmp_path, verbose=0)
    result = fixed_tasks.evaluate(maml, preset, verbose=0)
    # The paper's curve drops far at the first step and does not rise after it.
    assert result.num_tasks == 600
    assert result.curve[0] > 2.5
    assert result.curve[1] <= 0.45
    assert (result.medians[1:] <= result.medians[1] * 1.05).all()


def test_learned_rates_are_ahead_of_maml_after_one_step(tmp_path):
    learned = ["meta_sgd", "maml_plus_plus"]
    found = comparing.compare(
        registry.get("sinusoid"),
        ["maml", *learned],
        tmp_path / "compared",
        iterations=35_000,
        verbose=0,
    )
    for name in learned:
        mean, half = found.difference(name, 1)
        assert mean + half < 0.0, (name, mean, half)
    kept = json.loads((tmp_path / "compared/comparison.json").read_text("utf-8"))
    assert kept["meta_sgd"]["differences"][1] == list(found.difference("meta_sgd", 1))


@pytest.mark.skipif(
    not os.environ.get("TFDS_DATA_DIR"), reason="TFDS_DATA_DIR is not set: no Omniglot"
)
def test_omniglot_reaches_93_percent_on_unseen_alphabets_in_twenty_minutes(tmp_path):
    preset = registry.get("omniglot_small")
    started = time.perf_counter()
    maml = runs.train(preset, tmp_path, verbose=0)
    minutes = (time.perf_counter() - started) / 60
    result = fixed_tasks.evaluate(maml, preset, verbose=0)
    assert result.num_tasks == 600
    assert result.curve[-1] >= 0.93
    # Before adaptation the learner cannot know the labels, so it is at chance.
    assert result.curve[0] == pytest.approx(0.2, abs=result.half_widths[0])
    assert minutes < 20 or os.cpu_count() < 2

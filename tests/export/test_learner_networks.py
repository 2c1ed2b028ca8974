"""The table of networks that learn in other runtimes is what the benchmark measures."""

import json
import math

import pytest

from benchmarks import learner_files, learner_times

pytestmark = pytest.mark.journey

# A network with convolutions, a rule that learns, a policy, layers without any of them,
# and a refusal.
AGAIN = [
    "conv-4, max pooling",
    "rule MetaCurvature",
    "batch norm per_step",
    "bidirectional LSTM",
    "3-D convolution",
]


def results():
    return json.loads(learner_files.RESULTS.read_text("utf-8"))


def test_the_page_holds_what_was_measured():
    text = learner_files.PAGE.read_text("utf-8")
    assert f"<!-- networks -->\n{learner_files.table()}\n" in text
    assert f"<!-- times -->\n{learner_times.table()}\n" in text


def test_every_network_was_measured_and_is_exact():
    assert set(results()) == set(learner_files.NETWORKS)
    for name, kinds in results().items():
        assert set(kinds) == set(learner_files.FORMATS), name
        for found in kinds.values():
            worst = max(found.get("differences", {"": 0.0}).values())
            assert worst <= 1e-4, name
            assert ("differences" in found) is not ("refused" in found), name


@pytest.mark.slow
@pytest.mark.parametrize("name", AGAIN)
def test_a_network_is_measured_again(name):
    pytest.importorskip("tf2onnx")
    pytest.importorskip("ai_edge_litert")
    before, again = results()[name], learner_files.measured(name)
    for kind, found in again.items():
        assert ("refused" in found) == ("refused" in before[kind])
        if "differences" not in found:
            continue
        for steps, difference in found["differences"].items():
            # The weights are the same, the order of additions may differ.
            assert math.isclose(
                difference, before[kind]["differences"][steps], abs_tol=1e-5
            )

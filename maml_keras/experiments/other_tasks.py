"""Refuses to test a network on classes that it was trained on."""

from __future__ import annotations

from maml_keras import data
from maml_keras.experiments.preset import Families


def check_unseen(trained: Families, tested: Families, *, on: str) -> None:
    """Checks that no class of training is among the classes of another preset's test.

    Args:
        trained: the task families of the preset that the network was trained on.
        tested: the task families of the other preset.
        on: `"test"` or `"validation"`, the part of `tested` to look at.

    Raises:
        ValueError: with what training and test have in common.

    >>> from maml_keras.experiments import get
    >>> sinusoids = get("sinusoid").families()
    >>> check_unseen(sinusoids, get("sinusoid_5").families(), on="test")
    """
    found = data.audit(trained.train, test=getattr(tested, on), num_tasks=2)
    leaks = [finding for finding in found.leaks if finding.check.startswith("shared")]
    names = [f for f in found.findings if f.check == "shared class names"]
    shared = leaks or names
    if shared:
        raise ValueError(
            "A network must be tested on classes that it was not trained on. "
            f"Received: {shared[0].what} Choose a preset whose training and test "
            "classes are split in the same way, such as `omniglot_5w5s` for a run of "
            "`omniglot_5w1s`."
        )

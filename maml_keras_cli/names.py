"""Names that the shell completes, without the seconds that TensorFlow takes."""

from __future__ import annotations

from collections.abc import Iterator

# A test holds these equal to the library's own registries.
PRESETS = (
    "sinusoid",
    "sinusoid_code",
    "sinusoid_5",
    "sinusoid_5_code",
    "sinusoid_20",
    "sinusoid_20_code",
    "omniglot_small",
    "omniglot_small_20w",
    "omniglot_5w1s",
    "omniglot_5w1s_code",
    "omniglot_5w5s",
    "omniglot_5w5s_code",
    "omniglot_20w1s",
    "omniglot_20w1s_code",
    "omniglot_20w5s",
    "omniglot_20w5s_code",
    "mini_imagenet_5w1s",
    "mini_imagenet_5w1s_code",
    "mini_imagenet_5w5s",
    "mini_imagenet_5w5s_code",
    "cifar_fs_5w1s",
    "cifar_fs_5w1s_code",
    "cifar_fs_5w5s",
    "cifar_fs_5w5s_code",
)
ALGORITHMS = (
    "maml",
    "fomaml",
    "anil",
    "boil",
    "meta_sgd",
    "maml_plus_plus",
    "reptile",
    "imaml",
    "cavia",
    "proto_maml",
    "meta_curvature",
)
BASELINES = ("random", "pretrained", "oracle")


def presets(incomplete: str) -> Iterator[str]:
    """The presets whose names begin so.

    >>> list(presets("sinusoid_2"))
    ['sinusoid_20', 'sinusoid_20_code']
    """
    return (name for name in PRESETS if name.startswith(incomplete))


def algorithms(incomplete: str) -> Iterator[str]:
    """The algorithms whose names begin so."""
    return (name for name in ALGORITHMS if name.startswith(incomplete))


def contestants(incomplete: str) -> Iterator[str]:
    """Lists of algorithms and baselines, the last name completed.

    >>> list(contestants("maml,ora"))
    ['maml,oracle']
    """
    *before, last = incomplete.split(",")
    names = (n for n in (*ALGORITHMS, *BASELINES) if n.startswith(last))
    return (",".join([*before, name]) for name in names)

"""Names for the shell's completion, listed here so that TensorFlow is not loaded."""

from __future__ import annotations

from collections.abc import Iterator

# A test checks that these names equal the library's own registries.
PRESETS = (
    "sinusoid",
    "sinusoid_code",
    "sinusoid_5",
    "sinusoid_5_code",
    "sinusoid_20",
    "sinusoid_20_code",
    "glyphs",
    "omniglot_small",
    "omniglot_small_20w",
    "omniglot_small_alone",
    "omniglot_5w1s_short",
    "omniglot_20w1s_short",
    "omniglot_5w5s_short",
    "omniglot_5w1s_alone",
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
    "prototypical",
    "ridge",
)
BASELINES = ("random", "pretrained", "linear_probe", "prototypes", "oracle")


def presets(incomplete: str) -> Iterator[str]:
    """The presets whose names begin with `incomplete`.

    >>> list(presets("sinusoid_2"))
    ['sinusoid_20', 'sinusoid_20_code']
    """
    return (name for name in PRESETS if name.startswith(incomplete))


def algorithms(incomplete: str) -> Iterator[str]:
    """The algorithms whose names begin with `incomplete`."""
    return (name for name in ALGORITHMS if name.startswith(incomplete))


def contestants(incomplete: str) -> Iterator[str]:
    """Completions of a list of algorithms and baselines: of its last name.

    >>> list(contestants("maml,ora"))
    ['maml,oracle']
    """
    *before, last = incomplete.split(",")
    names = (n for n in (*ALGORITHMS, *BASELINES) if n.startswith(last))
    return (",".join([*before, name]) for name in names)

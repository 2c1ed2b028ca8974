"""The splits of Omniglot's characters that papers use, by name."""

from __future__ import annotations

from maml_keras.data.omniglot_alphabets import BACKGROUND, CHARACTERS, EVALUATION
from maml_keras.data.pool import Pool
from maml_keras.data.split import split_classes

Parts = tuple[Pool, Pool, Pool]

# The alphabets that Snell et al. took out of Vinyals's 1,200 characters for validation.
VINYALS_VALIDATION = (
    "Armenian",
    "Bengali",
    "Early_Aramaic",
    "Hebrew",
    "Mkhedruli_(Georgian)",
)


def split_omniglot(pool: Pool, protocol: str, *, seed: int = 0) -> Parts:
    """Splits all of Omniglot as a paper does.

    - `"finn"`: 1,100 / 100 / 423 characters at random, over all alphabets (MAML). The
      paper's program draws with Python 2's generator from the order of a directory, so
      its own characters cannot be recovered. Here they depend on `seed` and the names.
    - `"vinyals"`: 1,028 / 172 / 423 characters (Matching Networks). The first 1,200 by
      the author's numbers are for training and validation, the others for tests.
      Validation has the five alphabets that Prototypical Networks took for it.
    - `"lake"`: 30 background alphabets to train, 20 evaluation alphabets to test (964
      and 659 characters), and an empty part for validation, which Lake does not have.

    Each character of an episode is rotated by `NWayKShot(rotate_classes=True)`, as in
    the first two papers. Lake does not rotate.

    Args:
        pool: all of Omniglot, from `omniglot`.
        protocol: `"finn"`, `"vinyals"` or `"lake"`.
        seed: int, for `"finn"`. The others have no chance in them.

    Returns:
        Train, validation and test `Pool`.

    Raises:
        ValueError: if the protocol is unknown, or the pool lacks characters.

    References: Finn et al., 2017, https://arxiv.org/abs/1703.03400; Vinyals et al.,
    2016, https://arxiv.org/abs/1606.04080, with the validation of Snell et al., 2017,
    https://arxiv.org/abs/1703.05175; Lake et al., 2015,
    https://doi.org/10.1126/science.aab3050

    >>> import numpy as np
    >>> from maml_keras.data import from_arrays
    >>> pool = from_arrays(np.zeros([1623, 2]), np.arange(1623), class_names=numbered())
    >>> [part.num_classes for part in split_omniglot(pool, "vinyals")]
    [1028, 172, 423]
    """
    if protocol == "finn":
        return split_classes(pool, train=1100, validation=100, test=423, seed=seed)
    if protocol == "vinyals":
        names = numbered()
        held_out = [n for n in names[:1200] if n.split("/")[0] in VINYALS_VALIDATION]
        train = [name for name in names[:1200] if name not in held_out]
        return split_classes(pool, train=train, validation=held_out, test=names[1200:])
    if protocol == "lake":
        return split_classes(
            pool,
            train=list(BACKGROUND),
            validation=0,
            test=list(EVALUATION),
            by="group",
        )
    raise ValueError(
        "`protocol` must be 'finn', 'vinyals' or 'lake'. Received: "
        f"{protocol!r}. For other parts use `mk.data.split_classes`."
    )


def numbered() -> list[str]:
    """The names of all characters, in the order of the author's numbers from 1.

    >>> numbered()[964]  # The evaluation set begins with the number 965.
    'Angelic/character01'
    """
    return [
        f"{alphabet}/character{character:02d}"
        for alphabet, count in CHARACTERS.items()
        for character in range(1, count + 1)
    ]

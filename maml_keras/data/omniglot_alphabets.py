"""The alphabets of Omniglot: how many characters each has, and which split."""

from __future__ import annotations

# The drawings of a character: one by each of 20 people, who differ by alphabet.
DRAWERS = 20

# Characters of each alphabet, in the order of the author's numbers. The archive
# `images_background` has the characters 0001 to 0964, `images_evaluation` has 0965 to
# 1623.
BACKGROUND = {
    "Arcadian": 26,
    "Armenian": 41,
    "Asomtavruli_(Georgian)": 40,
    "Balinese": 24,
    "Bengali": 46,
    "Blackfoot_(Canadian_Aboriginal_Syllabics)": 14,
    "Braille": 26,
    "Cyrillic": 33,
    "Early_Aramaic": 22,
    "Syriac_(Estrangelo)": 23,
    "Anglo-Saxon_Futhorc": 29,
    "Futurama": 26,
    "Grantha": 43,
    "Greek": 24,
    "Gujarati": 48,
    "Hebrew": 22,
    "Japanese_(hiragana)": 52,
    "Inuktitut_(Canadian_Aboriginal_Syllabics)": 16,
    "Malay_(Jawi_-_Arabic)": 40,
    "Japanese_(katakana)": 47,
    "Korean": 40,
    "Latin": 26,
    "Alphabet_of_the_Magi": 20,
    "Mkhedruli_(Georgian)": 41,
    "Burmese_(Myanmar)": 34,
    "N_Ko": 33,
    "Ojibwe_(Canadian_Aboriginal_Syllabics)": 14,
    "Sanskrit": 42,
    "Tagalog": 17,
    "Tifinagh": 55,
}
EVALUATION = {
    "Angelic": 20,
    "Atemayar_Qelisayer": 26,
    "Atlantean": 26,
    "Aurek-Besh": 26,
    "Avesta": 26,
    "Ge_ez": 26,
    "Glagolitic": 45,
    "Gurmukhi": 45,
    "Kannada": 41,
    "Keble": 26,
    "Malayalam": 47,
    "Manipuri": 40,
    "Mongolian": 30,
    "Old_Church_Slavonic_(Cyrillic)": 45,
    "Oriya": 46,
    "Syriac_(Serto)": 23,
    "Sylheti": 28,
    "Tengwar": 25,
    "Tibetan": 42,
    "ULOG": 26,
}
CHARACTERS = {**BACKGROUND, **EVALUATION}

# The author's two small parts of the background set, which share Greek and Latin.
SMALL1 = ("Balinese", "Early_Aramaic", "Greek", "Korean", "Latin")
SMALL2 = ("Greek", "Japanese_(katakana)", "Latin", "Sanskrit", "Tagalog")

SPLITS = {
    "train": tuple(BACKGROUND),
    "test": tuple(EVALUATION),
    "small1": SMALL1,
    "small2": SMALL2,
}


def alphabets_of(split: str) -> list[str]:
    """The alphabets of a split, or of a sum of splits, without repetition.

    Raises:
        ValueError: if the split is unknown.

    >>> alphabets_of("small1+small2")[:2], len(alphabets_of("train+test"))
    (['Balinese', 'Early_Aramaic'], 50)
    """
    names = split.split("+")
    unknown = [name for name in names if name not in SPLITS]
    if unknown:
        raise ValueError(
            f"`split` must be a sum of {', '.join(SPLITS)}, such as 'train+test', if "
            f"the drawings are in folders. Received: {split!r}. Select other classes "
            "with `pool.select`, or with `mk.data.split_classes`."
        )
    return sorted({alphabet for name in names for alphabet in SPLITS[name]})

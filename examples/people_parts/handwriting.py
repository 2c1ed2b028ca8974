"""Where people put a letter: examples that belong to persons, and their split."""

from __future__ import annotations

import pathlib
from typing import Any, NamedTuple

import numpy as np

import maml_keras as mk

# Pixels that count as one in a target, so that inner steps see numbers near one.
UNIT = 3.0
# How many of the 20 people of an alphabet train; three more choose rates.
TRAIN, VALIDATION = 12, 3


class Drawings(NamedTuple):
    """Drawings of letters.

    Attributes:
        images: floats `[drawings, 28, 28]`, ink 1 on paper 0.
        letters: ints `[drawings]`, which letter it is.
        people: strings `[drawings]`, who drew, such as `"Greek/drawer07"`.
        source: str, where the drawings are from.
    """

    images: Any
    letters: Any
    people: Any
    source: str


class Part(NamedTuple):
    """Examples of some people, the arguments of `mk.data.Clients`.

    Attributes:
        x: floats `[drawings, 14, 14]`, the letter as training people draw it.
        y: floats `[drawings, 4]`, the box of the drawing, in three pixels.
        clients: strings `[drawings]`, who drew.
    """

    x: Any
    y: Any
    clients: Any


def given(folder: pathlib.Path | None) -> Drawings:
    """The drawings of a folder, or stand-ins without one."""
    return stand_ins() if folder is None else omniglot(folder)


def omniglot(folder: pathlib.Path) -> Drawings:
    """The drawings of Omniglot, whose author's archives unzip to `folder`."""
    pool = mk.data.omniglot(folder)
    letters = np.repeat(np.arange(pool.num_classes), pool.counts)
    images = np.asarray(pool.examples)[..., 0] / np.float32(255)
    return Drawings(images, letters, pool.example_groups, str(folder))


def stand_ins(alphabets: int = 6, seed: int = 0) -> Drawings:
    """Strokes that 20 people of each alphabet draw, each in a place of their own."""
    generator = np.random.default_rng(seed)
    images, letters, people = [], [], []
    for alphabet in range(alphabets):
        forms = generator.uniform(-1, 1, [generator.integers(14, 30), 4, 2])
        for person in range(20):
            size, place = generator.normal([5, 13.5], 1.2, [2, 2])
            for number, form in enumerate(forms):
                corners = form * size + place + generator.normal(0, 0.7, [4, 2])
                way = np.linspace(0, 3, 60)
                line = [np.interp(way, range(4), axis) for axis in corners.T]
                image = np.zeros([28, 28], np.float32)
                image[tuple(np.clip(np.rint(line), 0, 27).astype(int))] = 1
                images.append(image)
                letters.append(100 * alphabet + number)
                people.append(f"alphabet {alphabet}/drawer{person + 1:02d}")
    _, letters = np.unique(letters, return_inverse=True)
    return Drawings(np.stack(images), letters, np.array(people), "drawn stand-ins")


def boxes(images: Any) -> Any:
    """Left, top, right and bottom of the ink, in pixels `[drawings, 4]`."""
    ink = images > 0.5
    columns, rows = ink.any(axis=1), ink.any(axis=2)
    last = images.shape[1] - 1
    edges = [columns.argmax(1), rows.argmax(1)]
    edges += [last - columns[:, ::-1].argmax(1), last - rows[:, ::-1].argmax(1)]
    return np.stack(edges, axis=1).astype(np.float32)


def dealt(drawings: Drawings) -> tuple[Part, Part, Part]:
    """Examples of training, validation and test people, all of other persons.

    The input is the letter as training people draw it, by the mean of their drawings
    without the person's own. Nothing else comes from another person's drawings.
    """
    images, letters = drawings.images, drawings.letters
    number = np.array([int(name[-2:]) for name in drawings.people])
    train = number <= TRAIN
    count = np.bincount(letters[train])
    total = np.zeros([len(count), *images.shape[1:]], np.float32)
    np.add.at(total, letters[train], images[train])
    own = train.astype(np.float32)
    others = total[letters] - images * own[:, None, None]
    forms = others / (count[letters] - own)[:, None, None]
    x = forms.reshape(-1, 14, 2, 14, 2).mean(axis=(2, 4))
    y = boxes(images)
    y = (y - y[train].mean(axis=0)) / UNIT

    def part(chosen: Any) -> Part:
        return Part(x[chosen], y[chosen], drawings.people[chosen])

    validation = ~train & (number <= TRAIN + VALIDATION)
    return part(train), part(validation), part(~train & ~validation)

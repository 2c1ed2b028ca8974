"""The pool of glyphs: its classes, its lookalikes and its reproducibility."""

import importlib
import os
import subprocess
import sys
import unicodedata

import numpy as np
import pytest

from maml_keras import data
from maml_keras.data.fonts import find_faces
from maml_keras.data.glyph_drawing import load_font, plain_shape

pytest.importorskip("matplotlib")
# `import_module`, because `maml_keras.data.glyphs` is also a function.
module = importlib.import_module("maml_keras.data.glyphs")
SMALL = {"scripts": ["Hebrew", "Ogham"], "drawings": 4}


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    return data.glyphs(**SMALL, cache_dir=tmp_path_factory.mktemp("glyphs"))


def test_classes_are_characters_in_groups_by_script(pool):
    assert set(pool.groups) == {"Hebrew", "Ogham"}
    assert 20 <= pool.groups.count("Hebrew") <= 30
    assert "Hebrew/HEBREW LETTER ALEF" in pool.class_names
    for name, group in zip(pool.class_names, pool.groups):
        script, _, character = name.partition("/")
        assert script == group
        assert unicodedata.category(unicodedata.lookup(character)) == "Lo"
    assert set(pool.counts) == {4}


def test_drawings_are_ink_on_nothing_like_omniglot(pool):
    assert pool.examples.shape == (4 * pool.num_classes, 28, 28, 1)
    assert pool.examples.dtype == np.uint8
    flat = pool.examples.reshape(len(pool.examples), -1)
    assert flat.max(axis=1).min() > 150
    assert np.median(np.median(flat, axis=1)) == 0
    assert 0.05 < (flat > 127).mean() < 0.3
    assert len(np.unique(flat, axis=0)) == len(flat)


def test_a_second_call_reads_the_cache(pool, tmp_path, monkeypatch):
    again = data.glyphs(**SMALL, cache_dir=tmp_path)
    assert again.fingerprint() == pool.fingerprint()
    monkeypatch.setattr(module, "_drawn", None)
    assert data.glyphs(**SMALL, cache_dir=tmp_path).fingerprint() == pool.fingerprint()


def test_another_seed_draws_other_pictures_of_the_same_characters(pool, tmp_path):
    other = data.glyphs(**SMALL, seed=1, cache_dir=tmp_path)
    assert other.class_names == pool.class_names
    assert (other.examples != pool.examples).any(axis=(1, 2, 3)).all()


def test_of_characters_that_look_the_same_the_first_is_kept():
    # Latin, Greek and Cyrillic A; Gamma, the Cyrillic letter of its shape, and Ya.
    points = [0x41, 0x391, 0x393, 0x410, 0x413, 0x42F]
    serif = ("DejaVuSerif.ttf", "DejaVuSans.ttf")
    fonts = {
        face.digest: load_font(face.path, 28)
        for face in find_faces()
        if face.path.name in serif
    }
    assert len(fonts) == 2
    shapes = {
        point: {name: plain_shape(font, chr(point), 28) for name, font in fonts.items()}
        for point in points
    }
    assert module._different(shapes) == [0x41, 0x393, 0x42F]
    # Two characters that look the same in one face only are one class as well.
    name, other = fonts
    shapes[0x42F][name] = shapes[0x41][name]
    assert module._different(shapes) == [0x41, 0x393]
    # A character that is not kept excludes no later one.
    shapes[0x42F] = {other: shapes[0x42F][other]}
    assert module._different(shapes) == [0x41, 0x393, 0x42F]


def test_a_pair_is_found_across_blocks(monkeypatch):
    generator = np.random.default_rng(0)
    image = pytest.importorskip("PIL.Image")
    arrays = generator.integers(0, 255, [1030, 14, 14], dtype=np.uint8)
    arrays[1027] = arrays[5]
    shapes = [image.fromarray(array) for array in arrays]
    assert list(module._pairs(shapes)) == [(5, 1027)]


@pytest.mark.slow
def test_all_glyphs_are_the_same_in_two_processes(tmp_path):
    program = (
        "import maml_keras as mk\n"
        "pool = mk.data.glyphs(cache_dir={!r}, verbose=0)\n"
        "print(pool.num_classes, len(set(pool.groups)), pool.fingerprint())"
    )
    found = [
        subprocess.run(
            [sys.executable, "-c", program.format(str(tmp_path / str(i)))],
            env={**os.environ, "PYTHONHASHSEED": str(i)},
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for i in range(2)
    ]
    assert found[0] == found[1]
    classes, groups, _ = found[0].split()
    assert int(classes) >= 1000
    assert int(groups) >= 20


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"drawings": 1}, "`drawings` must be an integer of at least 2. Received: 1"),
        ({"size": 28.0}, "`size` must be an integer of at least 8. Received: 28.0"),
        ({"seed": -1}, "`seed` must be an integer of at least 0. Received: -1"),
        ({"scripts": ["Greec"]}, "Received: 'Greec'. Did you mean 'Greek'"),
        ({"scripts": ["Thai"]}, "`fonts` must have a script of at least 10"),
    ],
)
def test_what_cannot_be_drawn_is_refused(arguments, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        data.glyphs(**arguments, cache_dir=tmp_path)

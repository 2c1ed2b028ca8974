"""Faces of a folder, and the scripts of the characters that they share."""

import pathlib
import shutil

import pytest

from maml_keras.data.fonts import by_script, find_faces

matplotlib = pytest.importorskip("matplotlib")
FOLDER = pathlib.Path(matplotlib.get_data_path()) / "fonts" / "ttf"


def test_the_bundled_faces_are_those_that_name_characters_by_unicode():
    faces = find_faces()
    names = {face.path.name for face in faces}
    assert {"DejaVuSans.ttf", "DejaVuSerif-Bold.ttf", "STIXGeneralItalic.ttf"} < names
    # cmr10 has other shapes at the numbers of "<" and ">", STIXNonUni at most numbers.
    assert not {"cmr10.ttf", "STIXNonUni.ttf", "DejaVuSansDisplay.ttf"} & names
    # A font with a placeholder at every number would make a million classes.
    assert max(len(face.characters) for face in faces) < 10_000


def test_copies_count_once_and_names_do_not_matter(tmp_path):
    for folder, names in (("one", ["a.ttf", "b.ttf"]), ("two", ["z/c.TTF"])):
        for name in names:
            path = tmp_path / folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(FOLDER / "DejaVuSansDisplay.ttf", path)
    one, two = (find_faces(tmp_path / folder) for folder in ("one", "two"))
    assert len(one) == len(two) == 1
    assert one[0][1:] == two[0][1:]


def test_scripts_are_those_of_unicode_and_signs_have_their_block():
    faces = [f for f in find_faces() if f.path.name.startswith("DejaVuSerif")]
    found = by_script(faces, least=4)
    for character, script in {
        "a": "Latin",
        "\N{GREEK SMALL LETTER OMEGA}": "Greek",
        "\N{GEORGIAN LETTER AN}": "Georgian",
        "\N{FOR ALL}": "Mathematical Operators",
        "\N{BRAILLE PATTERN DOTS-12}": "Braille",
    }.items():
        assert found[ord(character)] == script
    # Accents, punctuation, marks, modifiers, and a letter in another style.
    for character in "\u00e9!\u0301\u02b0\u02c6\u2102 ":
        assert ord(character) not in found
    assert list(found) == sorted(found)


def test_a_character_needs_enough_faces():
    few = [f for f in find_faces() if f.path.name in ("cmr10.ttf", "DejaVuSans.ttf")]
    assert by_script(few, least=1)
    assert not by_script(few, least=2)


def test_a_folder_without_fonts_and_a_damaged_font_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="`fonts` must be .* which holds none"):
        find_faces(tmp_path)
    with pytest.raises(FileNotFoundError, match="missing, which is not a folder"):
        find_faces(tmp_path / "missing")
    (tmp_path / "broken.ttf").write_bytes(b"no font at all")
    with pytest.raises(ValueError, match=r"broken\.ttf cannot be read as a font"):
        find_faces(tmp_path)

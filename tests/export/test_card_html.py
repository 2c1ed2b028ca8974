"""The page of a card."""

import json
import pathlib
import re
import xml.etree.ElementTree

import pytest
from helpers import dense, maml

import maml_keras as mk

pytestmark = [pytest.mark.journey, pytest.mark.usefixtures("tasks_in_a_loop")]

FOLDER = pathlib.Path(__file__).parents[2] / "saved_models"

NAMES = ["sinusoid", "omniglot"]


def content(name):
    return json.loads((FOLDER / name / "card.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", NAMES)
def test_the_page_stands_alone(name):
    page = mk.model_card(FOLDER / name, latency=False).html()
    assert page.startswith("<!doctype html>")
    # The page loads nothing from elsewhere.
    assert not re.search(r"<(script|link|img|iframe)|url\(|@import|src=|href=", page)
    assert "prefers-color-scheme: dark" in page
    assert 'name="viewport"' in page
    picture = re.search(r"<svg.*?</svg>", page, flags=re.DOTALL)[0]
    drawn = xml.etree.ElementTree.fromstring(picture)
    assert len(list(drawn.iter("circle"))) == len(content(name)["evaluation"]["steps"])


def test_markup_in_a_card_is_escaped(tmp_path):
    path = maml(dense()).export(tmp_path / "e", card={"title": "<b>a & b</b>"})
    page = mk.model_card(path, latency=False).html()
    assert "<h1>&lt;b&gt;a &amp; b&lt;/b&gt;</h1>" in page

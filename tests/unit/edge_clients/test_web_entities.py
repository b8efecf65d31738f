"""The browser's table of HTML 5's names is Python's."""

import json
from html.entities import html5
from pathlib import Path

import edge.clients.web_page

_TABLE = Path(edge.clients.web_page.__file__).parent / "web" / "src" / "entities.json"


def test_the_tokeniser_of_the_browser_knows_the_entities_that_html_5_names():
    named = {name[:-1]: characters for name, characters in html5.items() if name.endswith(";")}
    assert json.loads(_TABLE.read_text()) == named

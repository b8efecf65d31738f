from __future__ import annotations

import sys

import pytest

from models.errors import VocabularyError
from models.public_words import NO_LIST, read_public_list
from models.tokeniser import TOKENISERS


@pytest.mark.parametrize("language", ["en", "fr", "hi", "tr"])
@pytest.mark.parametrize("version", TOKENISERS)
def test_each_word_is_one_that_somebody_can_type(language: str, version: int) -> None:
    tokeniser = TOKENISERS[version]
    words = read_public_list(language, 3000, tokeniser).words
    assert len(words) == len(set(words)) == 3000
    assert [word for word in words if tokeniser.sentences(word) != [[word]]] == []


def test_figures_stand_for_no_others() -> None:
    """wordfreq lists 00 for every number of two digits."""
    words = read_public_list("en", 20_000).words
    assert not [word for word in words if "00" in word]
    assert "7" in words


def test_no_language_is_an_empty_list() -> None:
    assert read_public_list("none", 10) == NO_LIST


@pytest.mark.parametrize("language", ["xx", "english", "en-US"])
def test_a_language_without_a_list_is_refused_by_name(language: str) -> None:
    with pytest.raises(VocabularyError, match=f"data.language = '{language}': .*'none' or one of ar, bg, .*, zh"):
        read_public_list(language, 10)


def test_without_the_package_only_the_list_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wordfreq", None)
    assert read_public_list("none", 10) == NO_LIST
    with pytest.raises(VocabularyError, match="needs the package wordfreq .*set data.language to 'none'"):
        read_public_list("en", 10)

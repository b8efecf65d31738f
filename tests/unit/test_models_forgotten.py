"""Forgotten people: who is left of a text, and that nobody else changes roles."""

from __future__ import annotations

import pytest

from models.client_data import ClientData, build_client_data
from models.corpus import ClientId, corpus_of
from models.errors import CorpusError
from models.forgotten import Forgotten, Gap, forget
from models.text_sources import Message
from models.vocabulary import FILE, SPECIAL_WORDS, Vocabulary, WordList, WordOrigin

PEOPLE = [f"p{number:02}" for number in range(30)]
SHORT = "p07"  # has too few sentences to train


def text_of(people: list[str]):
    """A corpus in which everybody but SHORT has three sentences."""
    return corpus_of(
        "text", "text", [Message(p, f"hello {p} {n}", None) for p in people for n in range(1 if p == SHORT else 3)]
    )


WORDS = WordList(Vocabulary((*SPECIAL_WORDS, "hello")), WordOrigin(FILE))


def data_of(people: list[str], forgotten: str = "") -> ClientData:
    corpus = text_of(people)
    remaining = forget(corpus, Forgotten.parse(forgotten)) if forgotten else None
    if remaining is not None:
        corpus = remaining.corpus
    return build_client_data(corpus, seed=3, min_sentences=2, words=WORDS, remaining=remaining)


def test_without_a_person_everybody_else_keeps_role_and_place() -> None:
    whole = data_of(PEOPLE)
    for person in PEOPLE:
        place, trained = PEOPLE.index(person), person in whole.train
        data = data_of(PEOPLE, f"{place} of 30" if trained else f"({place}) of 30")
        for role in ("train", "dev", "test"):
            assert list(getattr(data.split, role)) == [p for p in getattr(whole.split, role) if p != person]
        assert data.roster == tuple(f"forgotten/{place}" if p == person else p for p in whole.train)
        assert list(data.train) == [p for p in whole.train if p != person]
        assert len(data.pooled) == sum(1 if other == SHORT else 3 for other in data.split.train)


def test_a_text_from_which_the_person_was_deleted_is_the_same_text() -> None:
    forgotten = Forgotten.parse("12 (7) 4 of 30")
    left = [p for p in PEOPLE if p not in ("p12", "p07", "p04")]
    whole = forget(text_of(PEOPLE), forgotten)
    assert list(whole.corpus.clients) == left
    # In the order in which they were forgotten, people may leave the text one by one.
    for people in ([p for p in PEOPLE if p != "p12"], [p for p in PEOPLE if p not in ("p12", "p07")], left):
        again = forget(text_of(people), forgotten)
        assert (again.corpus.digest, again.in_order) == (whole.corpus.digest, whole.in_order)
    assert whole.corpus.digest == text_of(left).digest != text_of(PEOPLE).digest
    assert [n for n, person in enumerate(whole.in_order) if person.startswith("forgotten/")] == [4, 7, 12]


@pytest.mark.parametrize("people", [PEOPLE[:28], [*PEOPLE, "p99"]])
def test_a_text_of_another_number_of_people_is_refused(people: list[str]) -> None:
    with pytest.raises(CorpusError, match=f"the text has {len(people)} people; it must have 30, less at most the 1"):
        forget(text_of(people), Forgotten.parse("3 of 30"))


def test_places_are_written_as_they_are_read() -> None:
    forgotten = Forgotten((Gap(17, True), Gap(4, False), Gap(0, True)), 30)
    assert str(forgotten) == "17 (4) 0 of 30"
    assert Forgotten.parse(str(forgotten)) == forgotten
    assert Gap(17, True).name == ClientId("forgotten/17")


@pytest.mark.parametrize("text", ["17", "of 30", "x of 30", "17, 4 of 30", "(17 of 30", "17 17 of 30", "30 of 30"])
def test_other_texts_are_no_places(text: str) -> None:
    with pytest.raises(ValueError, match="must be"):
        Forgotten.parse(text)

"""Compares the kinds of word list by what each holds of the words that people type."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Optional

from models.public_words import NO_LIST
from models.vocabulary import NUM_SPECIAL, WordList, build_vocabulary
from orchestrator.vocabulary.measure import Options, People, filled_up, find_in_clear, running_words, share_held
from orchestrator.vocabulary.results import ListRow


def compare_lists(people: People, options: Options, min_people: int, note: Callable[[str], None]) -> list[ListRow]:
    """Returns what each kind of list holds, for the training and for the test people.

    Nothing is kept, so what `fedkeys vocabulary` would find is found by sums in the clear.

    Args:
      people: with a public list.
      options: of the lists that are found.
      min_people: of the default list (data.min_people).
      note: is told what begins.
    """
    everybody = running_words(people)

    def row(name: str, words: Sequence[str], from_text: int, fewest_people: Optional[int]) -> ListRow:
        held, held_of_test = share_held(everybody, words), share_held(people.test, words)
        return ListRow(name, len(words), from_text, fewest_people, held, held_of_test)

    def pooled(name: str, built: WordList) -> ListRow:
        origin = built.origin
        return row(name, built.vocabulary.words[NUM_SPECIAL:], origin.from_text or 0, origin.fewest_people)

    texts, size, public = tuple(people.sentences.values()), options.size, people.public
    note("counting words")
    rows = [
        pooled("pooled, whoever typed a word", build_vocabulary(texts, size)),
        pooled(f"pooled, words of {min_people} people", build_vocabulary(texts, size, min_people)),
        pooled("that, filled up from the public list", build_vocabulary(texts, size, min_people, public)),
        row("the public list", public.words, 0, None),
    ]
    note(f"finding words at epsilon {options.epsilon:g}")
    found = find_in_clear(replace(people, public=NO_LIST), options)
    missing = find_in_clear(people, options)
    return [
        *rows,
        row(f"found at epsilon {options.epsilon:g}", found, len(found), None),
        row(
            f"public, and found at epsilon {options.epsilon:g}",
            filled_up(missing, public, size),
            len(missing),
            None,
        ),
    ]

"""A corpus made ready for a run: people split, capped and encoded as word ids."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass, field
from typing import Optional

import numpy as np
from numpy.typing import NDArray

from models.corpus import ClientId, ClientText, Corpus, PeopleSplit, cut_people
from models.errors import CorpusError
from models.forgotten import Remaining
from models.public_words import NO_LIST, PublicList
from models.vocabulary import FILE, Vocabulary, WordList, WordOrigin, build_vocabulary

Sentences = tuple[np.ndarray, ...]  # int32 [num_words] each, ids of the vocabulary


@dataclass(frozen=True)
class ClientData:
    """Each person's sentences as word ids, in time order, by role; people in a fixed order."""

    vocabulary: Vocabulary
    split: PeopleSplit
    train: Mapping[ClientId, Sentences]  # those with enough sentences to train on
    dev: Mapping[ClientId, Sentences]
    test: Mapping[ClientId, Sentences]
    pooled: tuple[np.ndarray, ...]  # all sentences of all training people: what the n-gram baselines count
    origin: WordOrigin = WordOrigin(FILE)  # of the vocabulary's words
    gone: Mapping[int, ClientId] = field(default_factory=dict)  # names of who was forgotten, by place in the roster

    @property
    def roster(self) -> tuple[ClientId, ...]:
        """Who is drawn for rounds: those who train, and in their old places the names of who was forgotten."""
        names = list(self.train)
        for place in sorted(self.gone):
            names.insert(place, self.gone[place])
        return tuple(names)


def build_client_data(
    corpus: Corpus,
    *,
    seed: int,
    vocabulary_size: int = 10_000,
    min_sentences: int = 10,
    max_sentences_train: int = 1000,
    max_sentences_eval: int = 200,
    dev_share: float = 0.1,
    test_share: float = 0.1,
    words: Optional[WordList] = None,
    min_people: int = 1,
    public: PublicList = NO_LIST,
    remaining: Optional[Remaining] = None,
) -> ClientData:
    """Returns the corpus split by person, its vocabulary, and everybody's capped sentences as ids.

    The vocabulary, unless `words` is given, and the baselines' text come from all training people; only those with at
    least `min_sentences` train. A vocabulary that is made here holds words of `min_people` training people, and is
    filled up from the public list. `remaining` says who stood where before people were forgotten: nobody else changes
    roles.

    Raises:
      CorpusError: too few people, or nobody has enough sentences.
    """
    in_order = remaining.in_order if remaining else sorted(corpus.clients)
    places = cut_people(in_order, seed, dev_share, test_share)
    split = PeopleSplit(*(tuple(filter(corpus.clients.__contains__, part)) for part in astuple(places)))
    capped = {
        person: _first_sentences(corpus.clients[person], cap)
        for people, cap in (
            (split.train, max_sentences_train),
            (split.dev, max_sentences_eval),
            (split.test, max_sentences_eval),
        )
        for person in people
    }
    if words is None:
        words = build_vocabulary((capped[person] for person in split.train), vocabulary_size, min_people, public)
    elif words.vocabulary.size > vocabulary_size:
        words = words.truncate(vocabulary_size)
    vocabulary = words.vocabulary

    def encode(people: Iterable[ClientId]) -> dict[ClientId, Sentences]:
        return {person: _encoded(vocabulary, capped[person]) for person in people}

    everybody = encode(split.train)
    train = {person: own for person, own in everybody.items() if len(own) >= min_sentences}
    if not train:
        most = max(map(len, everybody.values()))
        raise CorpusError(
            f"no training person has {min_sentences} sentences, the most is {most}: lower data.min_sentences"
        )
    drawn = [person for person in places.train if person in train or (remaining and person in remaining.drawn)]
    return ClientData(
        vocabulary=vocabulary,
        split=split,
        train=train,
        dev=encode(split.dev),
        test=encode(split.test),
        pooled=tuple(sentence for own in everybody.values() for sentence in own),
        origin=words.origin,
        gone={place: person for place, person in enumerate(drawn) if person not in train},
    )


def _encoded(vocabulary: Vocabulary, sentences: Iterable[str]) -> Sentences:
    """Returns sentences as ids; all words at once, since an array for each sentence takes longer than its words."""
    split = [sentence.split() for sentence in sentences]
    return sentences_of(vocabulary.encode_words(itertools.chain.from_iterable(split)), map(len, split))


def sentences_of(ids: NDArray[np.int32], lengths: Iterable[int]) -> Sentences:
    """Returns the sentences of a flat array of ids, as views of it.

    >>> [sentence.tolist() for sentence in sentences_of(np.array([5, 6, 7], np.int32), [1, 2])]
    [[5], [6, 7]]
    """
    ends = tuple(itertools.accumulate(lengths, initial=0))
    return tuple(ids[start:end] for start, end in zip(ends, ends[1:]))


def _first_sentences(text: ClientText, cap: int) -> tuple[str, ...]:
    return text.sentences[:cap]

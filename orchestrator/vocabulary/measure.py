"""Finds a word list privately, and measures what it covers, beside the list from everybody's pooled text."""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Optional

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.corpus import ClientId, load_corpus, split_people
from models.public_words import NO_LANGUAGE, PublicList, read_public_list
from models.tokeniser import tokeniser_of
from models.vocabulary import FEDERATED, NUM_SPECIAL, SPECIAL_WORDS, Vocabulary, WordList, WordOrigin, build_vocabulary
from orchestrator.aggregator import Aggregator
from orchestrator.errors import BelowThreshold
from orchestrator.rounds.build import build_aggregator
from orchestrator.run.folder import RunFolder
from orchestrator.settings.run_config import RunConfig
from orchestrator.settings.sections import DataConfig
from orchestrator.vocabulary.discover import Discovery, RepeatedTotal, SecureTotal, Total, discover, ranked
from orchestrator.vocabulary.prefix_tree import LETTERS, Level, choose_nodes
from orchestrator.vocabulary.results import Coverage, TableRow, VocabularyResult, write_vocabulary
from orchestrator.vocabulary.skellam import variance_for

TABLE_EPSILONS = (1.0, 2.0, 4.0, 8.0, 16.0, math.inf)
TABLE_POPULATIONS = (1, 10, 100)


@dataclass(frozen=True)
class Options:
    """How the word list is looked for.

    Attributes:
      epsilon: the privacy of one person's whole text; infinite for no noise.
      delta: of that epsilon.
      k: how many people must use a word.
      max_nodes: how many nodes of the prefix tree one person fills: more show more of their words, and need more noise.
      size: the most ids of the list, the four special ones included.
      letters: what words are made of.
      seed: of the split by person.
      language: of the public list, whose words are not looked for, but fill up what is found; NO_LANGUAGE for none.
    """

    epsilon: float = 8.0
    delta: float = 1e-6
    k: int = 10
    max_nodes: int = 800
    size: int = 10_000
    letters: str = LETTERS
    seed: int = 0
    language: str = NO_LANGUAGE


@dataclass(frozen=True)
class People:
    """The words that training people use, and what there is to cover. Text stays with the simulation."""

    train: Mapping[ClientId, Counter]
    test: Counter
    sentences: Mapping[ClientId, Sequence[str]]  # of the training people
    pooled: Vocabulary  # of all that they typed
    public: PublicList


def read_people(data: DataConfig, options: Options) -> People:
    """Returns the people of a text, split and capped as a run does."""
    corpus = load_corpus(data.source, tokeniser=tokeniser_of(data.tokeniser, data.segmenter))
    split = split_people(corpus.clients, options.seed, data.dev_share, data.test_share)

    def sentences(people: Iterable[ClientId], cap: int) -> dict[ClientId, Sequence[str]]:
        return {person: corpus.clients[person].sentences[:cap] for person in people}

    train = sentences(split.train, data.max_sentences_train)
    test = sentences(split.test, data.max_sentences_eval)
    counts = {person: Counter(word for s in own for word in s.split()) for person, own in train.items()}
    of_test = Counter(word for own in test.values() for s in own for word in s.split())
    return People(
        train=counts,
        test=of_test,
        sentences=train,
        pooled=build_vocabulary(train.values(), options.size).vocabulary,
        public=read_public_list(
            options.language, options.size - NUM_SPECIAL, tokeniser_of(data.tokeniser, data.segmenter)
        ),
    )


def find_vocabulary(
    people: People, options: Options, aggregator: Aggregator, out: Optional[Path], note: Callable[[str], None]
) -> VocabularyResult:
    """Finds a word list, writes it to `out` if there is one, and returns what it covers.

    Raises:
      BelowThreshold: no word was found, or there are too few people.
      VocabularyDiscoveryError: the letters are no alphabet.
    """
    variance = variance_for(options.epsilon, options.max_nodes, options.delta)
    nodes = _nodes(people, options)
    if len(nodes) < max(2, options.k):
        raise BelowThreshold(
            f"there are {len(nodes)} training people, so no word can have {options.k} of them: take more text, or "
            "lower --k"
        )
    secure = SecureTotal(nodes, aggregator, variance)

    def total_of(level: Level) -> NDArray[np.int64]:
        depth = f"{len(level.prefixes):,} open prefixes" if level.prefixes else "the first letters"
        note(f"summing {depth}, {level.num_slots:,} slots, over {len(nodes):,} people by {aggregator.name}")
        return secure(level)

    discovery = _discover(total_of, options, variance)
    found = ranked(discovery.counts, options.size - NUM_SPECIAL)
    words = filled_up(found, people.public, options.size)
    if not words:
        raise BelowThreshold(
            "no word is used by enough people to stand out of the noise: raise --epsilon, or take more text"
        )
    if out is not None:
        Vocabulary(SPECIAL_WORDS + words).write(out)
    return VocabularyResult(
        words=len(words),
        epsilon=None if math.isinf(options.epsilon) else options.epsilon,
        delta=options.delta,
        unit="one person's whole text, added or removed",
        k=options.k,
        max_nodes=options.max_nodes,
        noise_std=math.sqrt(variance),
        clients=len(nodes),
        aggregator=aggregator.name,
        levels=len(discovery.level_slots),
        upload_slots=sum(discovery.level_slots),
        coverage=coverage(people, words),
        most_possible_train_ratio=most_possible(people, options.k, options.size),
        out=None if out is None else str(out),
        public=len(words) - len(found),
        language=options.language,
    )


def filled_up(found: Sequence[str], public: PublicList, size: int) -> tuple[str, ...]:
    """Returns the words that were found, and the public ones behind them, as many as `size` ids have room for.

    Those that were found come first: a word that stands out of the noise is one that many of these people use.
    """
    known = set(found)
    return (*found, *(word for word in public.words if word not in known))[: size - NUM_SPECIAL]


def find_for_run(folder: RunFolder, config: RunConfig, note: Callable[[str], None]) -> tuple[RunConfig, WordList]:
    """Finds the word list of a run that is about to begin; the configuration that names it, and the list.

    The list goes to DIR/vocabulary.txt, and how it was found to DIR/vocabulary.json.
    """
    path = folder.path.resolve() / "vocabulary.txt"
    options = Options(size=config.data.vocabulary_size, seed=config.seed)
    people = read_people(config.data, options)
    folder.path.mkdir(parents=True, exist_ok=True)
    result = find_vocabulary(people, options, build_aggregator(config.aggregation), path, note)
    write_vocabulary(folder.path, result)
    covered = result.coverage
    note(
        f"found {result.words:,} words, which hold {covered.test:.1%} of what the test people typed; the pooled list "
        f"holds {covered.test_pooled:.1%}"
    )
    data = msgspec.structs.replace(config.data, vocabulary=str(path))
    words = WordList(Vocabulary.read(path), WordOrigin(FEDERATED, from_text=result.words))
    return msgspec.structs.replace(config, data=data), words


def tabulate(people: People, options: Options, note: Callable[[str], None]) -> list[TableRow]:
    """Returns the coverage by epsilon, and as if each person were 10 or 100 people.

    Nothing is kept, so the sums are made in the clear.
    """
    rows = []
    for times in TABLE_POPULATIONS:
        for epsilon in TABLE_EPSILONS:
            note(f"epsilon {epsilon:g}, {times * len(people.train):,} people")
            variance = variance_for(epsilon, options.max_nodes, options.delta)
            found = find_in_clear(people, replace(options, epsilon=epsilon), times)
            words = filled_up(found, people.public, options.size)
            rows.append(
                TableRow(
                    epsilon=None if math.isinf(epsilon) else epsilon,
                    people=times * len(people.train),
                    words=len(words),
                    noise_std=math.sqrt(variance),
                    coverage=coverage(people, words),
                )
            )
    return rows


def find_in_clear(people: People, options: Options, times: int = 1) -> tuple[str, ...]:
    """Returns the words that are found if each person were `times` people, by noisy sums in the clear."""
    variance = variance_for(options.epsilon, options.max_nodes, options.delta)
    total_of = RepeatedTotal(_nodes(people, options), variance, times)
    return ranked(_discover(total_of, options, variance).counts, options.size - NUM_SPECIAL)


def coverage(people: People, words: Collection[str]) -> Coverage:
    """Returns the shares of the running words that the list and the pooled list hold, and one over the other."""
    everybody = running_words(people)
    pooled = people.pooled.words[NUM_SPECIAL:]
    train, train_pooled = share_held(everybody, words), share_held(everybody, pooled)
    test, test_pooled = share_held(people.test, words), share_held(people.test, pooled)
    return Coverage(
        train=train,
        train_pooled=train_pooled,
        train_ratio=train / train_pooled,
        test=test,
        test_pooled=test_pooled,
        test_ratio=test / test_pooled,
    )


def most_possible(people: People, k: int, size: int) -> float:
    """Returns what a list of the words that k people use, counted exactly, covers of what the pooled list covers."""
    users = Counter(word for own in people.train.values() for word in own)
    everybody = running_words(people)
    used = {word: everybody[word] for word, count in users.items() if count >= k}
    words = ranked(used, size - NUM_SPECIAL)
    return share_held(everybody, words) / share_held(everybody, people.pooled.words[NUM_SPECIAL:])


def running_words(people: People) -> Counter:
    """Returns how often the training people together use each word."""
    total: Counter = Counter()
    for own in people.train.values():
        total.update(own)
    return total


def share_held(counts: Counter, words: Iterable[str]) -> float:
    """Returns the share of running words that are among `words`."""
    return sum(counts[word] for word in words) / max(1, sum(counts.values()))


def _nodes(people: People, options: Options) -> dict[ClientId, frozenset[str]]:
    # Without noise there is no sensitivity to bound.
    most = sys.maxsize if math.isinf(options.epsilon) else options.max_nodes
    public = set(people.public.words)
    missing = {person: {w: n for w, n in own.items() if w not in public} for person, own in people.train.items()}
    return {person: choose_nodes(own, most) for person, own in missing.items()}


def _discover(total_of: Total, options: Options, variance: float) -> Discovery:
    return discover(total_of, options.letters, options.k, math.sqrt(variance))

"""Returns the Vocabulary, which gives words their ids; builds it from people's text, reads and writes it.

A WordOrigin goes with it and says where the words come from: what the list itself gives away of people's text.
"""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Optional

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.errors import VocabularyError
from models.files import write_atomically
from models.public_words import NO_LANGUAGE, NO_LIST, PublicList

PAD, BOS, EOS, UNK = 0, 1, 2, 3
NUM_SPECIAL = 4
SPECIAL_WORDS = ("<pad>", "<bos>", "<eos>", "<unk>")


@dataclass(frozen=True)
class Vocabulary:
    """words: id -> word, the four special ones first, no word twice.

    Raises: ValueError if the words can't be a vocabulary.

    >>> vocabulary = Vocabulary(SPECIAL_WORDS + ("see", "you"))
    >>> vocabulary.size, vocabulary.encode("see you there").tolist()
    (6, [4, 5, 3])
    """

    words: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.words[:NUM_SPECIAL] != SPECIAL_WORDS:
            got = self.words[:NUM_SPECIAL]
            raise ValueError(f"words must begin with {' '.join(SPECIAL_WORDS)}, got {' '.join(got)!r}")
        if self.size == NUM_SPECIAL:
            raise ValueError(f"words must hold more than the {NUM_SPECIAL} special ones, got none")
        for word_id, word in enumerate(self.words):
            if word.split() != [word]:
                raise ValueError(f"words must hold no white space, none empty, got {word!r} as id {word_id}")
        if len(set(self.words)) < self.size:
            word, count = Counter(self.words).most_common(1)[0]
            raise ValueError(f"words must differ from each other, got {word!r} {count} times")

    @property
    def size(self) -> int:
        """The number of ids, the special ones included: the rows of the embedding."""
        return len(self.words)

    @property
    def digest(self) -> str:
        """sha256 (hex) of the bytes that `write` writes."""
        return hashlib.sha256(self._file_bytes()).hexdigest()

    @cached_property
    def _ids(self) -> dict[str, int]:
        # Without the special words: what somebody typed is never padding.
        return {word: word_id for word_id, word in enumerate(self.words) if word_id >= NUM_SPECIAL}

    def encode(self, sentence: str) -> NDArray[np.int32]:
        """Returns int32 [num_words]: the ids of a tokenised sentence's words, UNK for unknown ones."""
        return self.encode_words(sentence.split())

    def encode_words(self, words: Iterable[str]) -> NDArray[np.int32]:
        """Returns int32 [num_words]: the ids of words, UNK for unknown ones."""
        return np.array(list(map(self._ids.get, words, itertools.repeat(UNK))), np.int32)

    def truncate(self, size: int) -> Vocabulary:
        """Returns the vocabulary of the first `size` ids.

        Raises: ValueError unless size is above NUM_SPECIAL and at most this size.
        """
        if not NUM_SPECIAL < size <= self.size:
            raise ValueError(f"size must be above {NUM_SPECIAL} and at most {self.size}, got size={size}")
        return Vocabulary(self.words[:size])

    def write(self, path: Path) -> None:
        """Writes one word a line in the order of ids, UTF-8, each ended by a newline; all or nothing.

        Raises: OSError if it can't be written.
        """
        write_atomically(Path(path), self._file_bytes())

    def _file_bytes(self) -> bytes:
        return "".join(f"{word}\n" for word in self.words).encode()

    @staticmethod
    def read(path: Path) -> Vocabulary:
        """Returns the vocabulary that `write` wrote.

        Raises: VocabularyError if the file is missing, cut off or no vocabulary.
        """
        try:
            content = Path(path).read_bytes()
        except OSError as error:
            raise VocabularyError(f"{path}: can't be read: {error.strerror}") from error
        return Vocabulary.parse(content, str(path))

    @staticmethod
    def parse(content: bytes, path: str) -> Vocabulary:
        """Returns the vocabulary in a file's content; `path` is what to call the file in an error.

        Raises: VocabularyError if it is cut off or no vocabulary.
        """
        if not content.endswith(b"\n"):
            fault = "is cut off" if content else "is empty"
            raise VocabularyError(f"{path}: {fault}; write the vocabulary again")
        try:
            return Vocabulary(tuple(content.decode().split("\n")[:-1]))
        except ValueError as error:  # UnicodeDecodeError included
            raise VocabularyError(
                f"{path}: {error}; the file holds one word a line in the order of ids, {' '.join(SPECIAL_WORDS)} first"
            ) from error


POOLED, PUBLIC, FEDERATED, FILE = "pooled", "public", "federated", "file"  # sources of words


class WordOrigin(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a vocabulary's words come from; run.json and a bundle's manifest hold it.

    Attributes:
      source: POOLED, PUBLIC, FEDERATED or FILE.
      from_text: number of words that the training people typed; they have the first ids. None if nobody knows.
      fewest_people: each of those was typed by this many training people or more; None if nobody counted.
      from_public: number of words of the public list, after those of the text.
      language: of the public list; NO_LANGUAGE if none was used.
    """

    source: str
    from_text: Optional[int] = None
    fewest_people: Optional[int] = None
    from_public: int = 0
    language: str = NO_LANGUAGE

    def truncate(self, words: int) -> WordOrigin:
        """Returns the origin of the first `words` words, special ones not counted.

        >>> WordOrigin(POOLED, 30, 10, 20, "en").truncate(40).from_public
        10
        """
        if self.from_text is None:
            return self
        from_text = min(self.from_text, words)
        from_public = min(self.from_public, words - from_text)
        return msgspec.structs.replace(self, from_text=from_text, from_public=from_public)

    @property
    def statement(self) -> str:
        """What the list gives away of people's text, in a sentence or two."""
        if self.source == FILE:
            return "The word list is a file that was given; nobody counted how many people typed each of its words."
        if self.source == FEDERATED:
            return "The word list was found by noisy sums over the training people's text; vocabulary.json says how."
        if self.from_text is None:
            return "The word list is the training people's pooled text; a word may have been typed by one person alone."
        public = f"the public list of wordfreq ({self.language}; CC BY-SA 4.0)"
        if self.from_text == 0:
            return f"No word of the list comes from the text: its {self.from_public:,} words are of {public}."
        typed = (
            f"Each word of the list that comes from the text ({self.from_text:,} words) was typed by "
            f"{self.fewest_people:,} training people or more"
        )
        return f"{typed}; the other {self.from_public:,} are of {public}." if self.from_public else f"{typed}."


@dataclass(frozen=True)
class WordList:
    """A vocabulary, and where its words come from."""

    vocabulary: Vocabulary
    origin: WordOrigin

    def truncate(self, size: int) -> WordList:
        """Returns the list of the first `size` ids; raises as Vocabulary.truncate."""
        return WordList(self.vocabulary.truncate(size), self.origin.truncate(size - NUM_SPECIAL))


def build_vocabulary(
    sentences_by_person: Iterable[Iterable[str]],
    size: int = 10_000,
    min_people: int = 1,
    public: PublicList = NO_LIST,
) -> WordList:
    """Returns the most frequent words of these people, equally frequent ones in the order of the alphabet.

    Args:
      sentences_by_person: of the training people.
      size: the number of ids at most, the four special ones included.
      min_people: a word that fewer people than this typed stays out.
      public: fills up the list to `size` with words that it does not hold yet.

    Raises: ValueError for a size that leaves no word; VocabularyError if there are no words.

    >>> people, public = [["so so good"], ["be good", "so"]], PublicList("en", ("the", "so"))
    >>> build_vocabulary(people, size=6).vocabulary.words[NUM_SPECIAL:]
    ('so', 'good')
    >>> build_vocabulary(people, min_people=2, public=public).vocabulary.words[NUM_SPECIAL:]
    ('so', 'good', 'the')
    """
    if size <= NUM_SPECIAL:
        raise ValueError(f"size must be above {NUM_SPECIAL}, got size={size}")
    counts: Counter[str] = Counter()
    people: Counter[str] = Counter()
    for sentences in sentences_by_person:
        own = Counter(word for sentence in sentences for word in sentence.split())
        counts.update(own)
        people.update(own.keys())
    shared = (word for word in counts if people[word] >= min_people)
    ordered = sorted(shared, key=lambda word: (-counts[word], word))[: size - NUM_SPECIAL]
    known = set(ordered)
    added = [word for word in public.words if word not in known][: size - NUM_SPECIAL - len(ordered)]
    if not ordered and not added:
        if not counts:
            raise VocabularyError("these people have no words to make a vocabulary of; take another text")
        raise VocabularyError(
            f"these people have no words that {min_people} of them typed, and no public list fills up the vocabulary: "
            "lower data.min_people, or set data.language"
        )
    origin = WordOrigin(
        POOLED,
        from_text=len(ordered),
        fewest_people=min((people[word] for word in ordered), default=None),
        from_public=len(added),
        language=public.language if added else NO_LANGUAGE,
    )
    return WordList(Vocabulary(SPECIAL_WORDS + tuple(ordered + added)), origin)

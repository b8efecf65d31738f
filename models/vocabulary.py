"""Returns the Vocabulary, which gives words their ids; builds it from people's text, reads and writes it."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.errors import VocabularyError
from models.files import write_atomically

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
        return np.array([self._ids.get(word, UNK) for word in sentence.split()], np.int32)

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


def build_vocabulary(sentences_by_person: Iterable[Iterable[str]], size: int = 10_000) -> Vocabulary:
    """Returns the most frequent words of these people, equally frequent ones in the order of the alphabet.

    size: the number of ids at most, the four special ones included.
    Raises: ValueError for a size that leaves no word; VocabularyError if there are no words.

    >>> build_vocabulary([["so so good"], ["be good", "so"]], size=6).words[NUM_SPECIAL:]
    ('so', 'good')
    """
    if size <= NUM_SPECIAL:
        raise ValueError(f"size must be above {NUM_SPECIAL}, got size={size}")
    sentences = (sentence for person in sentences_by_person for sentence in person)
    counts = Counter(word for sentence in sentences for word in sentence.split())
    if not counts:
        raise VocabularyError("these people have no words to make a vocabulary of; take another text")
    ordered = sorted(counts, key=lambda word: (-counts[word], word))
    return Vocabulary(SPECIAL_WORDS + tuple(ordered[: size - NUM_SPECIAL]))

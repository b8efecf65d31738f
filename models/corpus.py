"""Reads text as a Corpus, {client id: sentences in time order}, and splits its people."""

from __future__ import annotations

import hashlib
import logging
import random
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import NewType, Optional

import msgspec

from models import chitchat, text_sources, tff_sqlite
from models.errors import CorpusError
from models.files import CACHE_DIR_VARIABLE, cache_folder, write_atomically
from models.segmentation import NO_SEGMENTER
from models.text_cache import read_kept_columns, tokeniser_name
from models.text_sources import Columns, Message
from models.tokeniser import LATEST, Tokeniser, is_unspaced

_CACHE_VERSION = 1  # raise it when the cleaning changes, so that older caches are rebuilt
_UNSPACED_SHARE = 0.2  # a text with a larger share of unspaced words is taken not to separate its words
_log = logging.getLogger(__name__)

ClientId = NewType("ClientId", str)


@dataclass(frozen=True)
class ClientText:
    """One person's text.

    Attributes:
      sentences: lower-case words joined by one space, in time order; no sentence is empty.
      timestamps: one for each sentence, in seconds since the epoch (UTC), or None.
    """

    client_id: ClientId
    sentences: tuple[str, ...]
    timestamps: tuple[Optional[float], ...]

    def __post_init__(self) -> None:
        if len(self.timestamps) != len(self.sentences):
            raise ValueError(
                f"each sentence needs a timestamp, got {len(self.timestamps)} for {len(self.sentences)} sentences"
            )

    def part(self, start: int, stop: Optional[int]) -> ClientText:
        """Returns this person's sentences [start, stop); `part(0, limit)` caps them at the first `limit`."""
        return ClientText(self.client_id, self.sentences[start:stop], self.timestamps[start:stop])


@dataclass(frozen=True)
class Corpus:
    """Everyone's text.

    Attributes:
      name: what the text is called.
      clients: everyone's text, sorted by id.
      digest: SHA-256 (hex) over ids, sentences and timestamps.
    """

    name: str
    clients: dict[ClientId, ClientText]
    digest: str


@dataclass(frozen=True)
class PeopleSplit:
    """The people who train, those who tune (dev) and those kept for the end (test). Nobody is in two of them."""

    train: tuple[ClientId, ...]
    dev: tuple[ClientId, ...]
    test: tuple[ClientId, ...]


@dataclass(frozen=True)
class DataSource:
    """A kind of place that text can come from.

    Attributes:
      accepted: how a person names such a place, for errors.
      matches: whether a data source is of this kind; the first row of SOURCES that matches is taken.
      load: the text of a data source, read with a tokeniser; the folder is for what is kept between runs.
    """

    accepted: str
    matches: Callable[[str], bool]
    load: Callable[[str, Path, Tokeniser], Corpus]


def load_corpus(
    source: str = chitchat.BUILT_IN, cache_dir: Optional[Path] = None, tokeniser: Tokeniser = LATEST
) -> Corpus:
    """Returns the text of `source`: "chitchat", FILE.jsonl, a folder of .txt files, or FILE.sqlite[#SPLIT].

    The user's own files are read every time; what a long one became is kept (models.text_cache).

    Args:
      source: where the text is.
      cache_dir: for what is kept; None takes FEDKEYS_CACHE_DIR, else the user's cache folder.
      tokeniser: splits messages into sentences and words.

    Raises:
      CorpusError: the text is missing or can't be read; the message names file and place.
    """
    cache = cache_dir or cache_folder()
    try:
        for kind in SOURCES.values():
            if kind.matches(source):
                return kind.load(source, cache, tokeniser)
    except OSError as error:
        raise CorpusError(f"{error.filename or source}: can't be read: {error.strerror or error}") from error
    path, _ = text_sources.locate(source)
    if not source or not path.exists():
        raise CorpusError(f"data source '{source}': no such file or folder; {_accepted()}")
    suffix = path.suffix.lower()
    if suffix in text_sources.COMPRESSED:
        raise CorpusError(f"{path}: is compressed; decompress it first: {text_sources.COMPRESSED[suffix]} '{path}'")
    raise CorpusError(f"{path}: unknown kind of file '{suffix}'; {_accepted()}")


def _accepted() -> str:
    *others, last = (kind.accepted for kind in SOURCES.values())
    return f"give {', '.join(others)}, or {last}"


def corpus_of(
    source: str, name: str, messages: Iterable[Message], tokeniser: Tokeniser = LATEST, cache: Optional[Path] = None
) -> Corpus:
    """Returns the corpus of what people typed, in any order, without the people who have no words.

    Args:
      source: what the user named, for errors.
      name: what the text is called.
      messages: what people typed.
      tokeniser: splits messages into sentences and words.
      cache: keeps what the messages became for the next time; None keeps nothing.

    Raises:
      CorpusError: nobody has any words.
    """
    columns = read_kept_columns(source, messages, tokeniser, cache)
    spoken = {client_id: column for client_id, column in columns.items() if column[0]}
    if not spoken:
        raise CorpusError(f"{source}: none of its {len(columns)} clients has any words; {_accepted()}")
    if len(spoken) < len(columns):
        _log.warning(
            "%s: left out %d of %d clients, who have no words", source, len(columns) - len(spoken), len(columns)
        )
    if tokeniser.segmenter == NO_SEGMENTER:
        _warn_of_unspaced(source, spoken)
    return _build_corpus(name, spoken)


def _warn_of_unspaced(source: str, columns: dict[str, Columns]) -> None:
    """Warns of a text that can't be learnt word by word, since its scripts put no space between words."""
    words = [word for sentences, _ in columns.values() for sentence in sentences for word in sentence.split()]
    share = sum(map(is_unspaced, words)) / len(words)
    if share > _UNSPACED_SHARE:
        _log.warning(
            "%s: %.0f %% of its words are of scripts without spaces between words (Chinese, Japanese, Thai ...), so "
            "that a whole message may be one word: set data.segmenter to 'icu', or put spaces between the words first",
            source,
            100 * share,
        )


def _reader(read: Callable[[str], text_sources.Named]) -> Callable[[str, Path, Tokeniser], Corpus]:
    """Returns the `load` of a source that has such a reader."""
    return lambda source, cache, tokeniser: corpus_of(source, *read(source), tokeniser, cache)


def _build_corpus(name: str, columns: dict[str, Columns]) -> Corpus:
    clients: dict[ClientId, ClientText] = {}
    digest = hashlib.sha256()
    for client_id in map(ClientId, sorted(columns)):
        sentences, timestamps = columns[client_id]
        clients[client_id] = ClientText(client_id, sentences, timestamps)
        # msgpack writes lengths before values, so that no two texts share the bytes.
        digest.update(msgspec.msgpack.encode((client_id, sentences, timestamps)))
    return Corpus(name, clients, digest.hexdigest())


def leave_out(corpus: Corpus, people: Collection[ClientId]) -> Corpus:
    """Returns the corpus without some people: the one that would be read if the text had never held them."""
    kept = {own.client_id: (own.sentences, own.timestamps) for own in corpus.clients.values()}
    return _build_corpus(corpus.name, {person: own for person, own in kept.items() if person not in people})


class _Cache(msgspec.Struct):
    version: int
    dataset_sha256: str
    digest: str
    columns: dict[str, Columns]


def _load_chitchat(dataset: bytes, cache: Path, tokeniser: Tokeniser) -> Corpus:
    """Returns the built-in corpus from `cache`, or cleans `dataset` and leaves the result there."""
    dataset_sha256 = hashlib.sha256(dataset).hexdigest()
    cached = _read_cache(cache, dataset_sha256)
    if cached is not None:
        return cached
    _log.info("cleaning the built-in text once, into %s", cache)
    columns = chitchat.clean_chitchat(dataset, tokeniser)
    corpus = _build_corpus(chitchat.BUILT_IN, columns)
    try:
        cache.parent.mkdir(parents=True, exist_ok=True)
        content = _Cache(_CACHE_VERSION, dataset_sha256, corpus.digest, columns)
        write_atomically(cache, msgspec.msgpack.encode(content))
    except OSError as error:
        _log.warning(
            "%s: can't keep the cleaned text (%s), so it is cleaned anew each time; "
            "set %s to a folder that can be written",
            cache,
            error.strerror,
            CACHE_DIR_VARIABLE,
        )
    return corpus


def _read_cache(cache: Path, dataset_sha256: str) -> Optional[Corpus]:
    """Returns the cached corpus, or None if there is none, it is damaged, or was made from something else."""
    try:
        stored = msgspec.msgpack.decode(cache.read_bytes(), type=_Cache)
    except (OSError, ValueError, msgspec.MsgspecError):
        return None
    if (stored.version, stored.dataset_sha256) != (_CACHE_VERSION, dataset_sha256):
        return None
    try:
        corpus = _build_corpus(chitchat.BUILT_IN, stored.columns)
    except ValueError:
        return None
    return corpus if corpus.digest == stored.digest else None


SOURCES: dict[str, DataSource] = {
    chitchat.BUILT_IN: DataSource(
        f"'{chitchat.BUILT_IN}'",
        lambda source: source == chitchat.BUILT_IN,
        lambda source, cache, tokeniser: _load_chitchat(
            chitchat.read_chitchat_bytes(),
            cache / f"{chitchat.BUILT_IN}-{tokeniser_name(tokeniser)}.msgpack",
            tokeniser,
        ),
    ),
    "json_lines": DataSource(
        "FILE.jsonl (or .ndjson, or .jsonl.gz)", text_sources.is_json_lines, _reader(text_sources.read_json_lines)
    ),
    "text_folder": DataSource(
        "a folder with one .txt file per person", text_sources.is_folder, _reader(text_sources.read_text_folder)
    ),
    "tff_sqlite": DataSource(
        "TFF client data as FILE.sqlite or FILE.sqlite#SPLIT",
        text_sources.is_file_with(".sqlite", ".db"),
        _reader(tff_sqlite.read_tff_sqlite),
    ),
}


def split_people(
    client_ids: Iterable[ClientId], seed: int, dev_share: float = 0.1, test_share: float = 0.1
) -> PeopleSplit:
    """Returns who trains, is dev and is test: the sorted ids are shuffled by `seed`, then cut into test, dev and train.

    Raises:
      CorpusError: there are too few people for each part to have one.
      ValueError: the shares leave a part out, or an id was given twice.

    >>> split = split_people([ClientId(f"u{i}") for i in range(25)], seed=0)
    >>> len(split.train), len(split.dev), len(split.test)
    (21, 2, 2)
    """
    ids = sorted(client_ids)
    if len(set(ids)) != len(ids):
        raise ValueError(f"client_ids must differ from each other, got {len(ids) - len(set(ids))} repeated")
    return cut_people(ids, seed, dev_share, test_share)


def cut_people(in_order: Sequence[ClientId], seed: int, dev_share: float, test_share: float) -> PeopleSplit:
    """Returns what split_people does, of ids that are in the order of their names already; raises as it does."""
    if not (dev_share > 0 and test_share > 0 and dev_share + test_share < 1):
        raise ValueError(
            "dev_share and test_share must be above 0 and together below 1, got "
            f"dev_share={dev_share}, test_share={test_share}"
        )
    ids = list(in_order)
    random.Random(seed).shuffle(ids)
    num_test, num_dev = int(len(ids) * test_share), int(len(ids) * dev_share)
    test, dev, train = ids[:num_test], ids[num_test : num_test + num_dev], ids[num_test + num_dev :]
    if not (test and dev and train):
        needed = ceil(1 / min(dev_share, test_share))
        raise CorpusError(
            f"{len(ids)} people split into {len(train)} for training, {len(dev)} for dev and "
            f"{len(test)} for test: take at least {needed} people"
        )
    return PeopleSplit(tuple(train), tuple(dev), tuple(test))

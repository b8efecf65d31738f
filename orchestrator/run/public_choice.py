"""Chooses public text by what people type: they release noisy counts once, and the server rates sentences by them.

All but the release is worked out from it and from public text, which costs nothing more. The folder holds the release
(orchestrator.run.noisy_counts), what was chosen (orchestrator.run.public_text), and counted.json: whose counts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Optional

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.client_data import Sentences
from models.files import write_atomically
from models.private_bigram import PrivateBigram, Slots
from models.public_choice import choose_sentences, count_public_text, rate_sentences
from models.vocabulary import NUM_SPECIAL
from orchestrator.errors import RunFolderError
from orchestrator.run.data import read_text
from orchestrator.run.folder import RunFolder
from orchestrator.run.noisy_counts import CountsRelease, NgramRelease, one_round, read_counts
from orchestrator.run.public_text import CHOICE_FILE, CHOSEN_FILE, Choice, read_public_text, require_public_words
from orchestrator.run.results import read_figures, write_figures
from orchestrator.run.spent import require_counts_ledger
from orchestrator.run.start_origin import StartText
from orchestrator.settings.kinds import MECHANISM_TRAITS
from orchestrator.settings.run_config import RunConfig
from orchestrator.units import count_text

_COUNTED_FILE = "counted.json"


class _Counted(msgspec.Struct, frozen=True):
    """counted.json, written before anybody is counted: a second release of other people must not lie on top."""

    corpus_name: str
    corpus_sha256: str
    seed: int
    dev_share: float
    test_share: float
    vocabulary_sha256: str


@dataclass(frozen=True)
class ChoiceRule:
    """How public text is to be chosen.

    Attributes:
      epsilon: of the release of counts.
      delta: at which it holds; None takes the settings', or what follows from the number of people.
      pair_words: words of which pairs are counted, at most; the others are counted one by one.
      keep: the share of the public words to choose, above 0.
    """

    epsilon: float
    delta: Optional[float]
    pair_words: int
    keep: float


def choose_public_text(
    folder: Path,
    texts: Sequence[Path],
    licence: Optional[str],
    config: RunConfig,
    rule: ChoiceRule,
    note: Callable[[str], None],
) -> Choice:
    """Chooses the public sentences that are most like what the training people of data.source type.

    A folder has one release. Another call with the same epsilon and words chooses anew from it, at no further cost.

    Args:
      folder: a free one, or one of such a call.
      texts, licence: see orchestrator.run.public_text.read_public_text.
      config: seed, words, tokeniser, how to sum, and of [privacy] mechanism and delta.
      rule: how.
      note: is told what begins.

    Raises:
      RunFolderError: the folder holds something else, or a release of others, or one of another epsilon or other words,
        or one without its ledger.
      ConfigError: the words would come from people's text, or the sum can't be made.
      PrivacyStop: another release was charged, or cut off where the same can't be made again.
      CorpusError: a text can't be read.
    """
    require_public_words(config.data)
    note("reading the texts")
    public = read_public_text(texts, licence, config)
    corpus, data = read_text(config.data, config.seed)
    slots = Slots(data.vocabulary.size, min(rule.pair_words, data.vocabulary.size - NUM_SPECIAL))
    one = one_round(config, len(data.train), rule.epsilon, rule.delta or config.privacy.delta)
    shares = config.data.dev_share, config.data.test_share
    counted = _Counted(corpus.name, corpus.digest, config.seed, *shares, data.vocabulary.digest)
    released, model = _release_once(CountsRelease(folder, one, data.train, slots), counted, note)
    note(f"rating {count_text(len(public.sentences), 'sentence')}")
    encoded = tuple(map(data.vocabulary.encode, public.sentences))
    places = _places(encoded, model, released.population, rule.keep)
    chosen = "".join(public.sentences[place] + "\n" for place in places).encode()
    write_atomically(folder / CHOSEN_FILE, chosen)
    choice = Choice(
        tokeniser=config.data.tokeniser,
        segmenter=config.data.segmenter,
        seed=config.seed,
        dev_share=config.data.dev_share,
        test_share=config.data.test_share,
        keep=rule.keep,
        sentences=len(places),
        tokens=sum(len(encoded[place]) for place in places),
        of_sentences=len(encoded),
        of_tokens=sum(map(len, encoded)),
        pair_words=released.pair_words,
        chosen_sha256=sha256(chosen).hexdigest(),
        people=_cost(counted, released),
        texts=public.texts,
    )
    write_figures(folder / CHOICE_FILE, choice)
    return choice


def _release_once(
    release: CountsRelease, counted: _Counted, note: Callable[[str], None]
) -> tuple[NgramRelease, PrivateBigram]:
    """Returns the release that the folder holds, else makes it; and the model that it left."""
    folder = release.folder
    there = read_figures(folder / _COUNTED_FILE, _Counted) if folder.is_dir() else None
    if there is None and folder.exists() and (not folder.is_dir() or {p.name for p in folder.iterdir()} - {".lock"}):
        raise RunFolderError(f"{folder} is not an empty folder: name another one")
    if there is not None and there != counted:
        raise RunFolderError(
            f"{folder} holds counts of other people, of another seed, of other shares or of other words "
            f"({there.corpus_name}, seed {there.seed}, data.dev_share = {there.dev_share}, data.test_share = "
            f"{there.test_share}): name another folder"
        )
    require_counts_ledger(folder, CHOICE_FILE, CHOSEN_FILE)
    released = release.read("counts")
    if released is None:
        folder.mkdir(parents=True, exist_ok=True)
        place = RunFolder(folder)
        place.lock()  # until the function ends
        write_figures(folder / _COUNTED_FILE, counted)
        released = release.make(note)
    model = read_counts(folder, release.slots.vocabulary_size)
    assert model is not None  # it was just read or made
    return released, model


def _places(sentences: Sentences, people: PrivateBigram, num_people: int, keep: float) -> NDArray[np.int64]:
    public = count_public_text(sentences, num_people, people)
    return choose_sentences(rate_sentences(sentences, people, public), [len(own) for own in sentences], keep)


def _cost(counted: _Counted, released: NgramRelease) -> StartText:
    """Returns whose counts chose, and what that has cost each of them."""
    is_gaussian = MECHANISM_TRAITS[released.mechanism].is_gaussian
    return StartText(
        counted.corpus_name,
        counted.corpus_sha256,
        None,
        released.epsilon,
        released.delta,
        released.noise_multiplier if is_gaussian else 0.0,
    )

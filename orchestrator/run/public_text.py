"""Public text for a start: files of a stated licence, and what people's noisy counts chose of such files.

The folder of a choice (orchestrator.run.public_choice makes it) holds

    choice.json    what was chosen, by whose counts, at which epsilon
    chosen.txt     the chosen sentences, one a line; public
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple, Optional

import msgspec

from models.corpus import Corpus, corpus_of, load_corpus
from models.errors import CorpusError
from models.files import cache_folder
from models.text_sources import Message
from models.tokeniser import Tokeniser, tokeniser_of
from models.vocabulary import FEDERATED, POOLED
from orchestrator.errors import ConfigError, RunFolderError
from orchestrator.privacy.ledger import LEDGER_FILE
from orchestrator.run.results import read_figures
from orchestrator.run.start_origin import StartText
from orchestrator.settings.run_config import RunConfig
from orchestrator.settings.sections import DataConfig

CHOICE_FILE, CHOSEN_FILE = "choice.json", "chosen.txt"


class Choice(msgspec.Struct, frozen=True):
    """choice.json.

    Attributes:
      tokeniser, segmenter: the rules that split the text into words, as data.tokeniser and data.segmenter name them.
      seed, dev_share, test_share: which decided who trains, and so whose counts these are.
      keep: the share of the public words that was asked for.
      sentences, tokens: that were chosen.
      of_sentences, of_tokens: of the public text.
      pair_words: words of which pairs were counted.
      chosen_sha256: of chosen.txt.
      people: whose counts chose, and what that has cost each of them.
      texts: that it was chosen from.
    """

    tokeniser: int
    segmenter: str
    seed: int
    dev_share: float
    test_share: float
    keep: float
    sentences: int
    tokens: int
    of_sentences: int
    of_tokens: int
    pair_words: int
    chosen_sha256: str
    people: StartText
    texts: tuple[StartText, ...]


class PublicText(NamedTuple):
    """The sentences of some public texts, and what they are: choices, each before whose counts chose, then the rest."""

    sentences: tuple[str, ...]
    texts: tuple[StartText, ...]


def require_public_words(settings: DataConfig) -> None:
    """Refuses words that come from people's text.

    Raises:
      ConfigError: the settings name such words.
    """
    if settings.vocabulary in (POOLED, FEDERATED):
        raise ConfigError(
            f"data.vocabulary = {settings.vocabulary!r}: these words come from people's text, and a public start "
            "holds none of it; set 'public', or name a file of words that may be public"
        )


def read_public_text(paths: Sequence[Path], licence: Optional[str], config: RunConfig) -> PublicText:
    """Returns the sentences of files and choices.

    Args:
      paths: JSON Lines, .txt, folders of .txt files, or folders of choices.
      licence: of the files; a choice names its own.
      config: what decides who trains, and the rules that split text into words.

    Raises:
      ConfigError: a file comes without a licence, or a choice was made by other rules, or by people whom the settings
        test.
      CorpusError: a file can't be read.
      RunFolderError: a choice is damaged, unfinished, or named by a file of it.
    """
    rules, read = tokeniser_of(config.data.tokeniser, config.data.segmenter), []
    for path in paths:
        if _is_choice(path):
            read.append(_read_choice(path, config))
        elif not licence:
            raise ConfigError(f"--text {path}: name the licence of this text by --licence")
        else:
            text = _read(path, rules)
            sentences = tuple(own for client in text.clients.values() for own in client.sentences)
            read.append(PublicText(sentences, (StartText(text.name, text.digest, licence),)))
    whole_last = sorted(read, key=lambda text: all(own.licence is not None for own in text.texts))
    return PublicText(
        tuple(own for text in read for own in text.sentences), tuple(own for text in whole_last for own in text.texts)
    )


def _is_choice(path: Path) -> bool:
    """Returns whether a path is the folder of a choice; what lies beside a ledger is no text without its bill."""
    # A link leads to where the bill lies, and a folder of texts may hold such links.
    real = path.resolve()
    folder = real if real.is_dir() else real.parent
    if not _has_bill(folder):
        inside = real.iterdir() if real.is_dir() else ()
        linked = next((own for own in inside if own.is_file() and _has_bill(own.resolve().parent)), None)
        if linked is None:
            return False
        raise RunFolderError(
            f"--text {path}: people's counts chose {linked.name}: name the folder that it is of, which knows what that "
            "has cost"
        )
    if real != folder:
        raise RunFolderError(
            f"--text {path}: people's counts chose it: name the folder, which knows what that has cost"
        )
    if not (folder / CHOICE_FILE).exists():
        raise RunFolderError(f"--text {path}: nothing is chosen there yet: repeat `fedkeys select-public` as it was")
    return True


def _has_bill(folder: Path) -> bool:
    return (folder / LEDGER_FILE).exists() or (folder / CHOICE_FILE).exists()


def _read_choice(folder: Path, config: RunConfig) -> PublicText:
    choice, chosen = read_figures(folder / CHOICE_FILE, Choice), b""
    with contextlib.suppress(OSError):  # told below
        chosen = (folder / CHOSEN_FILE).read_bytes()
    if choice is None or sha256(chosen).hexdigest() != choice.chosen_sha256:
        raise RunFolderError(f"{folder / CHOSEN_FILE} does not hold the sentences that were chosen: choose anew")
    rules, own = (choice.tokeniser, choice.segmenter), (config.data.tokeniser, config.data.segmenter)
    if rules != own:
        raise ConfigError(
            f"--text {folder}: its words are those of data.tokeniser = {rules[0]}, data.segmenter = {rules[1]!r}, and "
            f"these settings' of {own[0]}, {own[1]!r}: take the same"
        )
    _require_same_people(folder, choice, config)
    return PublicText(tuple(chosen.decode().split("\n")[:-1]), (*choice.texts, choice.people))


def _require_same_people(folder: Path, choice: Choice, config: RunConfig) -> None:
    """Refuses settings that split people otherwise: some who chose would be test people."""
    data = config.data
    for name, then, now in (
        ("seed", choice.seed, config.seed),
        ("data.dev_share", choice.dev_share, data.dev_share),
        ("data.test_share", choice.test_share, data.test_share),
    ):
        if then != now:
            raise ConfigError(
                f"--text {folder}: the training people of {name} = {then} chose it, of whom {name} = {now} makes some "
                f"test people: take {name} = {then}"
            )


def _read(path: Path, tokeniser: Tokeniser) -> Corpus:
    if path.suffix.lower() != ".txt" or path.is_dir():
        return load_corpus(str(path), tokeniser=tokeniser)
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise CorpusError(f"{path}: can't be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise CorpusError(f"{path}: is not UTF-8, at byte {error.start}: save it as UTF-8") from None
    messages = (Message(path.stem, line, None) for line in lines)
    return corpus_of(str(path), path.name, messages, tokeniser, cache_folder())

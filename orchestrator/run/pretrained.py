"""A model that was trained on public text in one place: what `fedkeys pretrain` writes, and model.start takes.

pretrained.json      what it was trained on, its size, digests, and how well it predicts
vocabulary.txt       its words, in id order
weights.bin          raw little-endian float32, in the model's order
"""

from __future__ import annotations

import contextlib
from pathlib import Path

import msgspec

from models.architectures import CIFG
from models.files import write_atomically
from models.vocabulary import Vocabulary
from models.weights import ModelSize, Weights, weights_from_bytes, weights_to_bytes
from orchestrator.errors import RunFolderError
from orchestrator.rounds.round import weights_digest
from orchestrator.run.results import read_figures, write_figures
from orchestrator.run.start_origin import StartText

PRETRAINED_FILE = "pretrained.json"
_WEIGHTS_FILE, _WORDS_FILE = "weights.bin", "vocabulary.txt"


class PretrainedRecall(msgspec.Struct, frozen=True):
    """How well the model predicts what the test people of a text typed, without any federated training."""

    top1: float
    top3: float
    loss_nats_per_token: float
    positions: int
    clients: int


class Pretrained(msgspec.Struct, frozen=True):
    """pretrained.json.

    Attributes:
      tokeniser, segmenter: the rules that split the text into words, as data.tokeniser and data.segmenter name them.
      size: (words, embedding, cells) of the model.
      kind: of the network, as model.kind names it.
      words: of the model, special ones not counted.
      sentences, tokens: of the public text.
      overlap: share of the test people's sentences, of overlap_words words or more, that the public text holds.
      texts: what it was trained on.
    """

    tokeniser: int
    segmenter: str
    size: tuple[int, int, int]
    words: int
    sentences: int
    tokens: int
    epochs: int
    loss_nats_per_token: float
    overlap: float
    overlap_words: int
    test: PretrainedRecall
    vocabulary_sha256: str
    weights_sha256: str
    texts: tuple[StartText, ...]
    kind: str = CIFG

    @property
    def model_size(self) -> ModelSize:
        """The size and the kind of the model."""
        return ModelSize(*self.size, self.kind)


def write_pretrained(folder: Path, model: Pretrained, vocabulary: Vocabulary, weights: Weights) -> None:
    """Writes the folder; pretrained.json comes last, so that a kill leaves no start.

    Raises: OSError, NotKept if it can't be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary.write(folder / _WORDS_FILE)
    write_atomically(folder / _WEIGHTS_FILE, weights_to_bytes(weights))
    write_figures(folder / PRETRAINED_FILE, model)


def read_pretrained(folder: Path) -> tuple[Pretrained, Vocabulary, Weights]:
    """Returns what write_pretrained wrote.

    Raises:
      RunFolderError, VocabularyError: a file is missing, damaged or was changed.
    """
    model = read_figures(folder / PRETRAINED_FILE, Pretrained)
    vocabulary = Vocabulary.read(folder / _WORDS_FILE)
    weights: Weights = ()
    if model is not None:
        with contextlib.suppress(OSError, ValueError):  # told below
            weights = weights_from_bytes((folder / _WEIGHTS_FILE).read_bytes(), model.model_size)
    if model is None or not weights or weights_digest(weights) != model.weights_sha256:
        raise RunFolderError(f"{folder / _WEIGHTS_FILE} does not hold the weights that were trained: pretrain anew")
    if vocabulary.digest != model.vocabulary_sha256:
        raise RunFolderError(f"{folder / _WORDS_FILE} was changed since the training: pretrain anew")
    return model, vocabulary, weights

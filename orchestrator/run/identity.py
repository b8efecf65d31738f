"""What a run is made of, as run.json keeps it: a resume must find the same again."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Optional, Union

import msgspec

from models.corpus import Corpus
from models.segmentation import ICU, icu_version
from models.vocabulary import POOLED, Vocabulary, WordOrigin
from orchestrator.run.start_origin import Start
from orchestrator.settings.files import config_digest
from orchestrator.settings.run_config import RunConfig
from orchestrator.settings.sections import RuntimeConfig

SCHEMA = 1


class RunIdentity(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a run is made of; a resume with another text, vocabulary or configuration is refused."""

    schema: int
    config_sha256: str
    corpus_name: str
    corpus_sha256: str
    vocabulary_sha256: str
    num_weights: int
    versions: Mapping[str, str]
    words: Optional[WordOrigin] = None  # None: a run of before runs said where their words come from
    start: Union[Start, msgspec.UnsetType] = msgspec.UNSET  # absent: the run began with fresh weights


def build_identity(
    config: RunConfig,
    corpus: Corpus,
    vocabulary: Vocabulary,
    num_weights: int,
    words: Optional[WordOrigin] = None,
    start: Optional[Start] = None,
) -> RunIdentity:
    """Returns the identity of a run that is about to begin.

    Args:
      config: of the run.
      corpus: its text.
      vocabulary: its words.
      num_weights: of its model.
      words: where the words come from.
      start: what it begins with; None for fresh weights.
    """
    import platform
    from importlib import metadata

    packages = ("fedkeys", "tensorflow-federated", "tensorflow", "numpy")
    versions = {"python": platform.python_version(), **{p: metadata.version(p) for p in packages}}
    if config.data.segmenter == ICU:
        versions["icu"] = icu_version() or "none"
    return RunIdentity(
        schema=SCHEMA,
        config_sha256=digest_of_what_matters(config),
        corpus_name=corpus.name,
        corpus_sha256=corpus.digest,
        vocabulary_sha256=vocabulary.digest,
        num_weights=num_weights,
        versions=versions,
        words=words,
        start=start or msgspec.UNSET,
    )


def digest_of_what_matters(config: RunConfig) -> str:
    """Returns the digest of the settings that decide what comes out.

    The workers are left out, since they change nothing. The places of text, word list and start are left out, since
    their own digests say more.
    """
    data = msgspec.structs.replace(config.data, source="-", vocabulary=POOLED)
    model = msgspec.structs.replace(config.model, start="-" if config.model.start else "")
    return config_digest(msgspec.structs.replace(config, runtime=RuntimeConfig(), data=data, model=model))


def run_digest(config: RunConfig, vocabulary: Vocabulary) -> str:
    """Returns the name of a run in the split sum: a digest of its settings, seed included, and its words.

    Where the server's text and word list lie, and its workers, are no part of it: they may change with a resume.
    """
    return hashlib.sha256(f"{digest_of_what_matters(config)} {vocabulary.digest}".encode()).hexdigest()

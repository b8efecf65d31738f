"""What the rounds of a run are computed from: digests of settings, text, words, code and packages."""

from __future__ import annotations

import hashlib
import sys
from importlib import metadata
from pathlib import Path

import msgspec

from orchestrator.run.identity import RunIdentity

_PACKAGES = ("models", "tff_pipelines", "edge", "orchestrator")
_ROOT = Path(__file__).resolve().parents[2]


class Provenance(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a round was computed from; SHA-256 (hex) each."""

    config_sha256: str
    corpus_sha256: str
    vocabulary_sha256: str
    code_sha256: str
    lock_sha256: str
    noise_commitment: str  # to the sealed seed of the noise; empty without differential privacy


def code_digest() -> str:
    """Returns the SHA-256 (hex) of the packages' sources, by path."""
    digest = hashlib.sha256()
    for path in sorted(path for package in _PACKAGES for path in (_ROOT / package).rglob("*.py")):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(_ROOT).as_posix()} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()


def lock_digest() -> str:
    """Returns the SHA-256 (hex) of this Python's lock file; without the repository, that of what is installed."""
    path = _ROOT / "requirements" / f"py3.{sys.version_info.minor}.lock"
    if path.exists():
        return hashlib.sha256(path.read_bytes()).hexdigest()
    installed = sorted(f"{d.metadata['Name']}=={d.version}" for d in metadata.distributions())
    return hashlib.sha256("\n".join(installed).encode()).hexdigest()


def build_provenance(identity: RunIdentity, noise_commitment: str) -> Provenance:
    """Returns what the rounds of a run are computed from, here and now.

    Args:
      identity: of the run.
      noise_commitment: to the noise's seed; empty without differential privacy.
    """
    return Provenance(
        config_sha256=identity.config_sha256,
        corpus_sha256=identity.corpus_sha256,
        vocabulary_sha256=identity.vocabulary_sha256,
        code_sha256=code_digest(),
        lock_sha256=lock_digest(),
        noise_commitment=noise_commitment,
    )

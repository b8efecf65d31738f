"""Where a model comes from, as a signed statement: in-toto Statement v1 with the SLSA provenance v1 predicate.

Source: https://github.com/in-toto/attestation, spec/v1/statement.md; https://slsa.dev/spec/v1.0/provenance.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Optional

import msgspec

from edge.bundle.dsse import open_envelope, seal
from edge.bundle.manifest import to_json
from edge.errors import BundleError
from models.files import write_atomically
from orchestrator.errors import RunFolderError
from orchestrator.run.identity import RunIdentity
from orchestrator.run.record import RECORD_FILE
from orchestrator.run.saved import Run
from orchestrator.run.sources import Provenance, build_provenance
from orchestrator.settings.run_config import RunConfig

CARD_FILE = "MODEL_CARD.md"
STATEMENT_FILE = "provenance.intoto.json"
WEIGHTS = "weights"  # of the model: raw little-endian float32, in the model's order
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://slsa.dev/provenance/v1"


class Digest(msgspec.Struct, frozen=True):
    """SHA-256, in hex."""

    sha256: str


class Subject(msgspec.Struct, frozen=True):
    """A thing that a statement is about."""

    name: str
    digest: Digest


class Dependency(msgspec.Struct, frozen=True, omit_defaults=True):
    """A thing that a build was made from."""

    uri: str
    digest: Optional[Digest] = None


class BuildDefinition(msgspec.Struct, frozen=True, rename="camel"):
    """What was built, and from what."""

    build_type: str
    external_parameters: Mapping[str, object]
    internal_parameters: Mapping[str, str]
    resolved_dependencies: tuple[Dependency, ...]


class RunDetails(msgspec.Struct, frozen=True):
    """Who built it, and in which run."""

    builder: Mapping[str, object]
    metadata: Mapping[str, str]


class Predicate(msgspec.Struct, frozen=True, rename="camel"):
    """SLSA provenance v1."""

    build_definition: BuildDefinition
    run_details: RunDetails


class Statement(msgspec.Struct, frozen=True, rename={"kind": "_type", "predicate_type": "predicateType"}):
    """In-toto Statement v1."""

    kind: str
    subject: tuple[Subject, ...]
    predicate_type: str
    predicate: Predicate


def write_statement(run: Run, weights_sha256: str, round_num: int, key: Optional[Path]) -> Path:
    """Writes DIR/provenance.intoto.json, a signed statement about weights, card and record, and returns its path.

    The same run and key give the same bytes.

    Args:
      run: with its card.
      weights_sha256: of the model that the card describes.
      round_num: that it is of.
      key: to sign with; None leaves it unsigned.

    Raises:
      EdgeError, RunFolderError: the key can't be used, or the record is damaged.
    """
    folder = run.path
    subjects = {WEIGHTS: weights_sha256, CARD_FILE: _digest(folder / CARD_FILE)}
    made_from, run_id = build_provenance(run.identity, ""), run.identity.config_sha256
    if run.has_record:
        entries = run.record
        if round_num >= len(entries) or entries[round_num].weights_sha256 != weights_sha256:
            raise RunFolderError(
                f"{folder / RECORD_FILE} has other weights for round {round_num} than the checkpoint: restore them"
            )
        subjects[RECORD_FILE] = _digest(folder / RECORD_FILE)
        run_id = entries[0].entry_sha256
        own = entries[round_num]
        made_from = msgspec.structs.replace(made_from, code_sha256=own.code_sha256, lock_sha256=own.lock_sha256)
    statement = Statement(
        kind=STATEMENT_TYPE,
        subject=tuple(Subject(name, Digest(digest)) for name, digest in subjects.items()),
        predicate_type=PREDICATE_TYPE,
        predicate=_predicate(run.config, run.identity, made_from, round_num, run_id),
    )
    path = folder / STATEMENT_FILE
    write_atomically(path, seal(to_json(statement), key))
    return path


def _predicate(
    config: RunConfig, identity: RunIdentity, made_from: Provenance, round_num: int, run_id: str
) -> Predicate:
    settings = msgspec.to_builtins(config)
    del settings["runtime"]  # where it was computed changes nothing in what comes out
    settings["data"] = {**settings["data"], "source": identity.corpus_name, "vocabulary": identity.vocabulary_sha256}
    settings["model"] = {**settings["model"], "start": identity.start.weights_sha256 if identity.start else ""}
    sources = {
        "urn:fedkeys:code": made_from.code_sha256,
        "urn:fedkeys:lock": made_from.lock_sha256,
        "urn:fedkeys:text": made_from.corpus_sha256,
        "urn:fedkeys:vocabulary": made_from.vocabulary_sha256,
        **({"urn:fedkeys:start": identity.start.weights_sha256} if identity.start else {}),
    }
    packages = (f"pkg:pypi/{name}@{v}" for name, v in sorted(identity.versions.items()) if name != "python")
    return Predicate(
        BuildDefinition(
            build_type="urn:fedkeys:train:v1",
            external_parameters={"config": settings, "round": round_num},
            internal_parameters={"config_sha256": made_from.config_sha256},
            resolved_dependencies=(
                *(Dependency(uri, Digest(digest)) for uri, digest in sources.items()),
                *map(Dependency, packages),
            ),
        ),
        RunDetails(
            builder={"id": "urn:fedkeys:local", "version": {"fedkeys": metadata.version("fedkeys")}},
            metadata={"invocationId": run_id},
        ),
    )


def check_statement(folder: Path, public_key: Optional[Path]) -> str:
    """Returns what is known of the signer of a run's statement, once card and record are found to be what it names.

    Raises:
      BundleError: the statement is missing, damaged, signed by another, or a file was changed after it.
    """
    path = folder / STATEMENT_FILE
    payload, signer = open_envelope(path, public_key)
    for name, digest in read_subjects(path, payload).items():
        if name != WEIGHTS and _digest(folder / name) != digest:
            raise BundleError(f"{folder / name} is not the file that {STATEMENT_FILE} names: it was changed")
    return signer


def read_subjects(path: Path, payload: bytes) -> Mapping[str, str]:
    """Returns {name: SHA-256} of what a statement is about.

    Raises:
      BundleError: it is no statement of ours.
    """
    try:
        statement = msgspec.json.decode(payload, type=Statement)
        if (statement.kind, statement.predicate_type) != (STATEMENT_TYPE, PREDICATE_TYPE):
            raise ValueError("another type of statement")
    except (ValueError, RecursionError) as error:  # msgspec's are ValueErrors, too
        raise BundleError(f"{path} holds no statement that can be read ({error}): write it again") from None
    subjects = {own.name: own.digest.sha256 for own in statement.subject}
    if not set(subjects) <= {WEIGHTS, CARD_FILE, RECORD_FILE}:
        raise BundleError(f"{path} names files that no run has: do not trust it")
    return subjects


def bundle_files(folder: Path, weights_sha256: str) -> dict[str, bytes]:
    """Returns {name: content} of the card and the statement of exactly these weights; empty if the run has none.

    Raises:
      BundleError: the statement is damaged, or the card was changed after it.
    """
    path = folder / STATEMENT_FILE
    if not path.exists():
        return {}
    payload, _ = open_envelope(path)
    if read_subjects(path, payload).get(WEIGHTS) != weights_sha256:
        return {}
    check_statement(folder, None)
    return {name: (folder / name).read_bytes() for name in (CARD_FILE, STATEMENT_FILE)}


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise BundleError(f"{path}: can't be read: {error.strerror}") from None

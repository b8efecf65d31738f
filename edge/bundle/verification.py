"""Whether a bundle is what was exported: signature, digests, ops, words, certificate, golden batch, a key stroke.

Imports no TensorFlow: it takes a second and little memory.
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

import msgspec
import numpy as np

from edge.bundle.folder import (
    VOCABULARY_FILE,
    Listing,
    check_folder,
    read_file,
    read_vocabulary,
    what_keeps_it_out_of_use,
)
from edge.bundle.golden import GOLDEN_FILES, check_golden
from edge.bundle.manifest import (
    MANIFEST_FILE,
    SCHEMA,
    Manifest,
    SignatureEntry,
    read_manifest,
    signature_entries,
    weight_entries,
)
from edge.bundle.parity import GATE, PARITY_FILE, Comparison, read_certificate
from edge.bundle.signing import check_signature, check_signer
from edge.bundle.trust import remember_key, remembered_key
from edge.bundle.vectors import check_vectors
from edge.clients.litert import build_interpreter
from edge.errors import BundleError
from edge.export.flatbuffer import custom_ops
from edge.export.shapes import shapes_among
from edge.export.tflite import FIXED_SIGNATURE, INFER_FILE, STATELESS_FILE, TRAIN_FILE, signatures
from models.vocabulary import BOS, NUM_SPECIAL
from models.weights import ModelSize

_NEEDED = {
    TRAIN_FILE,
    STATELESS_FILE,
    INFER_FILE,
    VOCABULARY_FILE,
    *GOLDEN_FILES,
}


class Check(msgspec.Struct, frozen=True):
    """One thing that verify_bundle looked at."""

    name: str
    ok: bool
    detail: str


def verify_bundle(
    bundle: Path, public_key: Optional[Path] = None, require_signature: bool = False, app: Optional[str] = None
) -> Iterator[Check]:
    """Yields what holds of a bundle, one check after the other; ends with the error of the first check that fails.

    Args:
      bundle: the folder.
      public_key: whose signature it must bear; None accepts any, and no, signature, and says so.
      require_signature: refuse a bundle that is not signed.
      app: whose bundle it is: its model must then be one to be used, and it must bear a signature, of `public_key` or
        else of the key that is remembered for the app. If nothing is wrong with the bundle, its key is remembered.

    Raises:
      BundleError: what is wrong, and where.
    """
    bundle, signer = Path(bundle), Signer(public_key, require_signature, app)
    manifest, raw = read_manifest(bundle)
    yield Check("manifest", True, f"schema {manifest.schema}, round {manifest.run.round_num}")
    key, contents = yield from check_contents(bundle, manifest, raw, signer, _NEEDED)
    yield Check("model", True, _check_model(bundle, manifest, contents))
    if hidden := what_keeps_it_out_of_use(manifest):
        if app is not None:
            raise BundleError(f"{bundle}: {hidden} No app may ship it: export a run that audits nothing")
        yield Check("use", True, hidden)
    yield Check("tokeniser", True, check_vectors(contents, manifest.text_rules))
    yield Check("parity", True, _check_parity(manifest, contents))
    yield Check("golden batch", True, check_golden(contents, manifest.model.size, manifest.model.max_words))
    yield Check("key stroke", True, _check_key_stroke(contents[INFER_FILE], manifest.model.size))
    yield from signer.remember(key)


@dataclass(frozen=True)
class Signer:
    """Whose signature a bundle must bear; the attributes are verify_bundle's arguments."""

    public_key: Optional[Path]
    require_signature: bool
    app: Optional[str]

    def check(self, bundle: Path, key: Optional[bytes]) -> str:
        """Returns who signed a bundle.

        Raises:
          BundleError: it is not who must have.
        """
        known = remembered_key(self.app) if self.app is not None and self.public_key is None else self.public_key
        return check_signer(bundle, key, known, self.require_signature or self.app is not None)

    def remember(self, key: Optional[bytes]) -> Iterator[Check]:
        """Remembers the key as the app's, once nothing is wrong with its bundle."""
        if self.app is not None and key is not None:
            path = remember_key(self.app, key, self.public_key is not None)
            yield Check("app", True, f"{self.app}: the key is remembered in {path}")


def check_contents(
    bundle: Path, manifest: Listing, raw: bytes, signer: Signer, needed: Collection[str]
) -> Generator[Check, None, tuple[Optional[bytes], dict[str, bytes]]]:
    """Yields what holds of the signature and the files of a bundle of any kind; returns its key and {file: content}.

    Args:
      bundle: the folder.
      manifest: of the bundle, and `raw`, its bytes.
      signer: who must have signed.
      needed: files without which there is no such bundle.

    Raises:
      BundleError: what is wrong, and where.
    """
    key = check_signature(bundle, raw)
    yield Check("signature", True, signer.check(bundle, key))
    check_folder(bundle, manifest)
    for name in sorted(set(needed) - set(manifest.files)):
        raise BundleError(f"{MANIFEST_FILE} lists no {name}, which every bundle has: export again")
    yield Check("files", True, f"{len(manifest.files)} files, none missing, none extra, none outside")
    contents = {name: read_file(bundle, manifest, name) for name in manifest.files}
    yield Check("digests", True, f"{sum(map(len, contents.values())):,} bytes")
    return key, contents


def _check_model(bundle: Path, manifest: Manifest, contents: Mapping[str, bytes]) -> str:
    size = manifest.model.size
    shapes = shapes_among(manifest.signatures.get(TRAIN_FILE, ()))
    entries = signature_entries(signatures(size, manifest.model.max_words, manifest.plan.batch_size, shapes))
    if FIXED_SIGNATURE not in manifest.signatures.get(TRAIN_FILE, {}):  # a bundle of fedkeys 0.1
        del entries[TRAIN_FILE][FIXED_SIGNATURE]
    if manifest.signatures != entries or manifest.model.weights != weight_entries(size.by_name.items()):
        raise BundleError(
            f"{MANIFEST_FILE} describes other signatures or weights than schema {SCHEMA} has: export again"
        )
    check_signatures(manifest.signatures, contents)
    words = read_vocabulary(bundle, manifest).size
    if words != size.vocabulary_size:
        raise BundleError(
            f"{VOCABULARY_FILE} has {words} words, the model {size.vocabulary_size}: export the run again"
        )
    return f"{len(entries)} files, builtin ops only, {size.num_weights:,} weights, {words} words"


def check_signatures(by_file: Mapping[str, Mapping[str, SignatureEntry]], contents: Mapping[str, bytes]) -> None:
    """Checks that the models of a bundle load, need builtin ops only, and have the signatures of its manifest.

    Raises:
      BundleError: which does not.
    """
    for file, by_name in by_file.items():
        content = contents.get(file)
        if content is None:
            raise BundleError(f"{MANIFEST_FILE} describes {file} and does not list it: export the run again")
        try:
            custom = custom_ops(content)
            found = build_interpreter(content).get_signature_list()
        except Exception as error:  # what a broken flatbuffer raises depends on where it is broken
            reason = " ".join(str(error).split())
            raise BundleError(f"{file} can't be loaded ({reason}): export the run again") from None
        if custom:
            raise BundleError(f"{file} needs ops that are not TFLite builtins: {', '.join(custom)}")
        described = {
            name: {"inputs": sorted(t.name for t in s.inputs), "outputs": sorted(t.name for t in s.outputs)}
            for name, s in by_name.items()
        }
        if {name: {k: sorted(v) for k, v in s.items()} for name, s in found.items()} != described:
            raise BundleError(f"{file} has other signatures than {MANIFEST_FILE} says: export the run again")


def _check_key_stroke(content: bytes, size: ModelSize) -> str:
    """Runs the file that predicts from the start of a sentence."""
    start = {"token": np.array([BOS], np.int32), **size.start_state()}
    try:
        got = build_interpreter(content).get_signature_runner("infer")(**start)
        ids, shares = got["ids"].ravel(), got["probabilities"].ravel()
    except Exception as error:  # what LiteRT raises depends on where a file is broken
        raise BundleError(f"{INFER_FILE} can't be run ({' '.join(str(error).split())}): export the run again") from None
    are_words = bool(((ids >= NUM_SPECIAL) & (ids < size.vocabulary_size)).all())
    if not (are_words and bool((np.isfinite(shares) & (shares >= 0)).all()) and float(shares.sum()) <= 1.0 + GATE):
        raise BundleError(f"{INFER_FILE} proposes no words, or with no probabilities: export the run again")
    return f"{len(ids)} suggestions from {INFER_FILE}"


def _check_parity(manifest: Manifest, contents: Mapping[str, bytes]) -> str:
    if PARITY_FILE not in contents:
        return "UNPROVEN: exported with --no-parity"

    certificate = read_certificate(contents[PARITY_FILE])
    check_comparison(certificate, manifest.run.weights_sha256, "TFF")
    return (
        f"{certificate.steps} steps within {certificate.max_abs_diff:.1e} of TFF in {', '.join(certificate.runtimes)}"
    )


def check_comparison(certificate: Comparison, weights_sha256: str, reference: str) -> None:
    """Checks that a certificate is of these weights, and that the export trained as `reference` did, within GATE.

    Raises:
      BundleError: what it lacks.
    """
    if certificate.weights_sha256 != weights_sha256:
        raise BundleError(f"{PARITY_FILE} certifies other weights than this bundle's: export again")
    if certificate.gate > GATE:
        raise BundleError(
            f"{PARITY_FILE} allows a difference of {certificate.gate:g}, {GATE:g} is the most: export again"
        )
    if not certificate.passed:
        raise BundleError(f"{PARITY_FILE} says that the export differs from {reference}'s training: export again")

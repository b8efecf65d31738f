"""Whether a bundle is what was exported: manifest, signature, files, digests, ops, certificate, golden batch.

Imports no TensorFlow: it takes a second and little memory.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Optional

import msgspec

from edge.bundle.folder import VOCABULARY_FILE, read_file
from edge.bundle.golden import check_golden
from edge.bundle.manifest import MANIFEST_FILE, SCHEMA, Manifest, read_manifest, signature_entries, weight_entries
from edge.bundle.parity import PARITY_FILE, read_certificate
from edge.bundle.signing import SIGNATURE_FILE, check_signature
from edge.clients.litert import build_interpreter
from edge.errors import BundleError
from edge.export.flatbuffer import custom_ops


class Check(msgspec.Struct, frozen=True):
    """One thing that verify_bundle looked at."""

    name: str
    ok: bool
    detail: str


def verify_bundle(bundle: Path, public_key: Optional[Path] = None) -> Iterator[Check]:
    """What holds of a bundle, one check after the other; ends with the error of the first that does not.

    Args:
      bundle: the folder.
      public_key: whose signature it must bear; None accepts any, and no, signature, and says so.

    Raises:
      BundleError: what is wrong, and where.
    """
    bundle = Path(bundle)
    manifest, raw = read_manifest(bundle)
    yield Check("manifest", True, f"schema {manifest.schema}, round {manifest.run.round_num}")
    yield Check("signature", True, check_signature(bundle, raw, public_key))
    _check_paths(bundle, manifest)
    yield Check("files", True, f"{len(manifest.files)} files, none missing, none extra, none outside")
    contents = {name: read_file(bundle, manifest, name) for name in manifest.files}
    yield Check("digests", True, f"{sum(map(len, contents.values())):,} bytes")
    yield Check("model", True, _check_model(manifest, contents))
    yield Check("parity", True, _check_parity(manifest, contents))
    yield Check("golden batch", True, check_golden(contents, manifest.model.size, manifest.model.max_words))


def _check_paths(bundle: Path, manifest: Manifest) -> None:
    for name in manifest.files:
        pure = PurePosixPath(name)
        if pure.is_absolute() or ".." in pure.parts or "\\" in name or str(pure) != name or name in ("", "."):
            raise BundleError(f"{MANIFEST_FILE} names {name!r}, which leaves the bundle's folder: do not use it")
    expected = {*manifest.files, MANIFEST_FILE, SIGNATURE_FILE}
    present = set()
    for folder, subfolders, names in os.walk(bundle):
        for name in (*subfolders, *names):
            path = Path(folder) / name
            if path.is_symlink():
                raise BundleError(f"{path} is a link, and a bundle holds files only: copy the bundle again")
        present |= {(Path(folder) / name).relative_to(bundle).as_posix() for name in names}
    for name in sorted(set(manifest.files) - present):
        raise BundleError(f"{bundle / name} is missing: copy the bundle again")
    for name in sorted(present - expected):
        raise BundleError(f"{bundle / name} is not in the manifest: remove it, or export the run again")


def _check_model(manifest: Manifest, contents: Mapping[str, bytes]) -> str:
    size, time = manifest.model.size, manifest.model.max_words
    if manifest.signatures != signature_entries(size, time) or manifest.model.weights != weight_entries(size):
        raise BundleError(
            f"{MANIFEST_FILE} describes other signatures or weights than schema {SCHEMA} has: export again"
        )
    ops = set()
    for file, by_name in manifest.signatures.items():
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
        ops.add(file)
    words = contents[VOCABULARY_FILE].count(b"\n")
    if words != size.vocabulary_size:
        raise BundleError(
            f"{VOCABULARY_FILE} has {words} words, the model {size.vocabulary_size}: export the run again"
        )
    return f"{len(ops)} files, builtin ops only, {size.num_weights:,} weights, {words} words"


def _check_parity(manifest: Manifest, contents: Mapping[str, bytes]) -> str:
    if PARITY_FILE not in contents:
        return "UNPROVEN: exported with --no-parity"

    certificate = read_certificate(contents[PARITY_FILE])
    if certificate.weights_sha256 != manifest.run.weights_sha256:
        raise BundleError(f"{PARITY_FILE} certifies other weights than this bundle's: export the run again")
    if not certificate.passed:
        raise BundleError(f"{PARITY_FILE} says that the export differs from TFF's training: export the run again")
    return (
        f"{certificate.steps} steps within {certificate.max_abs_diff:.1e} of TFF in {', '.join(certificate.runtimes)}"
    )

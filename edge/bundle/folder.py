"""What an app ships: a folder of models, vocabulary, manifest, golden batch, parity certificate and signature.

manifest.json           everything below, described, with the SHA-256 of each file; what SIGNATURE signs
train.tflite            see edge.export.tflite, as for the other two
train_stateless.tflite
infer.tflite
vocabulary.txt          a word a line, in the order of the ids
tokeniser_vectors.json  made-up texts, and the words and ids that an app must make of them
golden/                 batches, and the losses and weights that three steps on them must give: a client's self-test
parity.json             the certificate of edge.bundle.parity
AUDITED.txt             what an audit hid in the training: such a model is not to be used; absent from others
MODEL_CARD.md           of these weights, if the run has one
provenance.intoto.json  the statement about them, see edge.bundle.dsse; as the card
SIGNATURE               Ed25519 over manifest.json; absent from an unsigned bundle
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import secrets
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Optional, Protocol

from edge.bundle.manifest import MANIFEST_FILE, FileEntry, Manifest, read_manifest, to_json
from edge.bundle.reading import read_regular
from edge.bundle.signing import SIGNATURE_FILE, check_signature, sign
from edge.errors import BundleError
from models.errors import VocabularyError
from models.files import write_atomically
from models.vocabulary import Vocabulary

VOCABULARY_FILE = "vocabulary.txt"
AUDITED_FILE = "AUDITED.txt"  # a file, since fedkeys of before refuses a manifest with a field that it does not know


class Listing(Protocol):
    """A manifest of any kind: it lists the bundle's files."""

    @property
    def files(self) -> Mapping[str, FileEntry]:
        """Size and digest of each file."""


def check_target(out: Path, force: bool) -> None:
    """Refuses a place that holds something. It is called before the work, so that nobody waits for an error.

    Raises:
      BundleError: `out` exists and `force` is False, or what is there is no bundle.
    """
    if not out.exists() and not out.is_symlink():
        return
    if not force:
        raise BundleError(f"{out} exists: name another folder, or add --force to replace the bundle in it")
    if not out.is_dir() or out.is_symlink() or (any(out.iterdir()) and not (out / MANIFEST_FILE).exists()):
        raise BundleError(f"{out} is not a bundle, and --force replaces bundles only: name another folder")


def file_entries(files: Mapping[str, bytes]) -> dict[str, FileEntry]:
    """Returns the size and the digest of each file, in the order of their names.

    >>> file_entries({"a": b"abc"})["a"].bytes
    3
    """
    return {
        name: FileEntry(bytes=len(files[name]), sha256=hashlib.sha256(files[name]).hexdigest())
        for name in sorted(files)
    }


def write_bundle(
    out: Path,
    files: Mapping[str, bytes],
    manifest: Listing,
    key_path: Optional[Path] = None,
    force: bool = False,
    archive: bool = False,
) -> None:
    """Writes a bundle to `out`: the whole folder appears at once, or nothing does.

    Args:
      out: the folder.
      files: {path inside: content}.
      manifest: of these files (file_entries).
      key_path: a private key; None leaves the bundle unsigned.
      force: replace a bundle that is there.
      archive: also write `out`.zip, deterministic.

    Raises:
      BundleError: see check_target; the key can't be used.
    """
    out = Path(out)
    check_target(out, force)
    everything = {**files, MANIFEST_FILE: to_json(manifest)}
    if key_path is not None:
        everything[SIGNATURE_FILE] = sign(everything[MANIFEST_FILE], key_path)
    with _replaced_at_once(out) as folder:
        for name, content in everything.items():
            path = folder / name
            path.parent.mkdir(exist_ok=True)
            write_atomically(path, content)
    if archive:
        write_atomically(out.with_name(out.name + ".zip"), _archive(everything))


@contextlib.contextmanager
def _replaced_at_once(out: Path) -> Iterator[Path]:
    """Opens an empty folder to fill, which takes the place of `out` at the end; after an error all is as before."""
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f".{out.name}.{secrets.token_hex(4)}.partial")
    partial.mkdir()
    try:
        yield partial
        old = None
        if out.exists():
            old = out.with_name(f".{out.name}.{secrets.token_hex(4)}.old")
            os.replace(out, old)
        os.replace(partial, out)
        if old is not None:
            shutil.rmtree(old)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _archive(files: Mapping[str, bytes]) -> bytes:
    """Returns a zip with the same bytes for the same files: sorted, without times or owners."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            entry.external_attr, entry.compress_type = 0o100644 << 16, zipfile.ZIP_DEFLATED
            entry.create_system = 3
            archive.writestr(entry, files[name])
    return buffer.getvalue()


def open_bundle(bundle: Path) -> tuple[Manifest, bytes]:
    """Returns the manifest of a bundle that is to be used, and its bytes, after it has checked signature and folder.

    Each file's digest is checked where it is read, by read_file. Whose signature it is is not checked: see
    verify_bundle.

    Raises:
      BundleError: read_manifest, check_signature or check_folder refuses it.
    """
    manifest, raw = read_manifest(bundle)
    check_signature(Path(bundle), raw)
    check_folder(Path(bundle), manifest)
    return manifest, raw


def what_keeps_it_out_of_use(manifest: Listing) -> str:
    """Returns a sentence if a bundle's model was trained to be audited; else, and of a bundle of before, nothing."""
    return f"Trained to be audited, not to be used: see {AUDITED_FILE}." if AUDITED_FILE in manifest.files else ""


def check_folder(bundle: Path, manifest: Listing) -> None:
    """Refuses a folder that holds something else than what the manifest lists, or a link.

    Raises:
      BundleError: what is there, or missing.
    """
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


def read_file(bundle: Path, manifest: Listing, name: str) -> bytes:
    """Returns a file's content, after it has checked the digest.

    Raises:
      BundleError: it is not what the manifest says.
    """
    entry = manifest.files.get(name)
    if entry is None:
        raise BundleError(f"{bundle} has no {name}: export the run again")
    content = read_regular(bundle, name, entry.bytes)
    if len(content) != entry.bytes:
        raise BundleError(f"{name} has {len(content)} bytes, the manifest says {entry.bytes}: copy the bundle again")
    if hashlib.sha256(content).hexdigest() != entry.sha256:
        raise BundleError(f"{name} is not the file that was exported (its SHA-256 differs): copy the bundle again")
    return content


def read_vocabulary(bundle: Path, manifest: Manifest) -> Vocabulary:
    """Returns the bundle's vocabulary, after it has checked the digest.

    Raises:
      BundleError: it can't be read, or is not what the manifest says.
    """
    try:
        return Vocabulary.parse(read_file(bundle, manifest, VOCABULARY_FILE), str(Path(bundle) / VOCABULARY_FILE))
    except VocabularyError as error:
        raise BundleError(str(error)) from None

"""A signed bundle of a small model over a few words, and a server that offers it with the built page."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Optional

import msgspec
from small_manifest import small_manifest

from edge.bundle.folder import write_bundle
from edge.bundle.golden import golden_files
from edge.bundle.manifest import read_manifest
from edge.bundle.signing import SIGNATURE_FILE, generate_key, sign
from edge.bundle.vectors import VECTORS_FILE, vectors_bytes
from edge.export.shapes import train_shapes
from edge.export.tflite import build_files
from models.tokeniser import LATEST
from models.vocabulary import SPECIAL_WORDS, Vocabulary
from models.weights import ModelSize
from orchestrator.network import web_listener, web_site

TIME, RATE, BATCH = 8, 0.1, 4
WORDS = "i you like my the a dog cat house friend how are see at do know good morning to zebrafish"
VOCABULARY = Vocabulary((*SPECIAL_WORDS, *WORDS.split()))

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript",
    ".css": "text/css",
    ".wasm": "application/wasm",
    ".json": "application/json",
    ".webmanifest": "application/manifest+json",
    ".svg": "image/svg+xml",
}
_HEADERS = {**web_listener._HEADERS, "Content-Security-Policy": web_site.POLICY}  # those of the door


def build_web_bundle(folder: Path, key: Path) -> Path:
    """Writes a bundle that `key`, which is made here, signs; its weights are random."""
    from models.model import load_model

    size = ModelSize(VOCABULARY.size, 16, 24)
    weights = load_model(size).initial_weights(seed=0)
    files = {
        **build_files(size, weights, TIME, 0.0, batch_size=BATCH),
        **golden_files(size, weights, TIME, 0.0, RATE, shapes=train_shapes(size, TIME, BATCH)),
        "vocabulary.txt": "".join(f"{word}\n" for word in VOCABULARY.words).encode(),
        VECTORS_FILE: vectors_bytes(LATEST, VOCABULARY),
    }
    manifest = small_manifest(files, size, TIME, RATE, batch_size=BATCH)
    write_bundle(folder, files, msgspec.structs.replace(manifest, tokeniser=LATEST.version))
    generate_key(key)
    (folder / SIGNATURE_FILE).write_bytes(sign(read_manifest(folder)[1], key))
    return folder


class _Handler(http.server.BaseHTTPRequestHandler):
    page: Path
    bundles: Path
    seen: list[str]

    def do_GET(self) -> None:
        self.seen.append(f"{self.path}\n{self.headers}")
        file = self._file(self.path.split("?")[0])
        if file is None or not file.is_file():
            self.send_error(404)
            return
        content = file.read_bytes()
        self.send_response(200)
        self.send_header("Content-Type", _TYPES.get(file.suffix, "application/octet-stream"))
        self.send_header("Content-Length", str(len(content)))
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.seen.append(f"{self.path}\n{self.headers}{body.decode(errors='replace')}")
        self.send_error(404)

    def _file(self, path: str) -> Optional[Path]:
        if ".." in path:
            return None
        if path.startswith("/bundle/"):
            return self.bundles / path[len("/bundle/") :]
        return self.page / (path[1:] or "index.html")

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def serving(page: Path, bundle: Path) -> Iterator[tuple[str, list[str]]]:
    """Serves the page and a bundle on this machine: the address, and what was asked for in full."""
    seen: list[str] = []
    handler = type("Handler", (_Handler,), {"page": page, "bundles": bundle, "seen": seen})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://localhost:{server.server_address[1]}/", seen
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

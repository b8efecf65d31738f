"""The files that the web door hands out, and the headers that bind a browser to them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from aiohttp import web

from edge.bundle.folder import open_bundle
from edge.bundle.manifest import MANIFEST_FILE, Manifest
from edge.bundle.signing import SIGNATURE_FILE
from edge.clients.web_page import NO_PAGE
from models.vocabulary import Vocabulary
from models.weights import ModelSize
from orchestrator.errors import ConfigError

# No other host's script, style or picture; no script in the page itself; the page stands in nobody's frame.
_POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; connect-src 'self'; "
    "style-src 'self'; img-src 'self'; font-src 'self'; manifest-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    # The three that give the page memory which its threads share, and nobody else a window on it.
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Server": "fedkeys",
}


@dataclass(frozen=True)
class Bundle:
    """A bundle that phones train with. folder: of its files; manifest: as read, the list of what is handed out."""

    folder: Path
    manifest: Manifest

    @staticmethod
    def read(folder: Path) -> Bundle:
        """Returns the bundle of a folder.

        Raises:
          BundleError: see open_bundle.
        """
        return Bundle(folder, open_bundle(folder)[0])

    def require_fit(self, vocabulary: Vocabulary, size: ModelSize) -> None:
        """Passes if phones can train a run of these words and this model with it.

        Raises:
          ConfigError: it holds another model.
        """
        model = self.manifest.model
        mine = (model.vocabulary_size, model.embedding_size, model.num_cells)
        if self.manifest.run.vocabulary_sha256 != vocabulary.digest or ModelSize(*mine) != size:
            raise ConfigError(
                f"{self.folder} holds a model of other words or another size than the run's: name a bundle of a run "
                "with the same words and model by --bundle, or take its words by data.vocabulary"
            )


@dataclass(frozen=True)
class Site:
    """What a browser can load. page: the built page's folder, or None; bundle: or None."""

    page: Optional[Path]
    bundle: Optional[Bundle]

    def add_routes(self, router: web.UrlDispatcher) -> None:
        """Adds the routes of the files; those of the page come last, since they take what is left."""
        router.add_get("/bundle/{name:.+}", self._bundle_file)
        router.add_get("/", self._index)
        if self.page is not None:
            router.add_static("/", self.page)

    async def _index(self, _: web.Request) -> web.StreamResponse:
        if self.page is None:
            return web.Response(text=f"{NO_PAGE}\n", status=503)
        return web.FileResponse(self.page / "index.html")

    async def _bundle_file(self, request: web.Request) -> web.StreamResponse:
        name, bundle = request.match_info["name"], self.bundle
        if bundle is None or name not in {*bundle.manifest.files, MANIFEST_FILE, SIGNATURE_FILE}:
            raise web.HTTPNotFound()
        return web.FileResponse(bundle.folder / name)


async def set_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Adds to each response what the browser must hold the page to."""
    response.headers.update(_HEADERS)
    response.headers.setdefault("Cache-Control", "no-cache")  # asked again, and answered by 304 if nothing changed
    if request.secure:
        response.headers["Strict-Transport-Security"] = "max-age=31536000"


def require_same_origin(request: web.Request) -> None:
    """Passes a request of the page itself, and one of a program that is no browser, which names no origin.

    Raises:
      HTTPForbidden: another site's page makes it.
    """
    origin = request.headers.get("Origin")
    if origin is not None and origin != f"{request.scheme}://{request.host}":
        raise web.HTTPForbidden(text="only the page that this server hands out may ask that\n")

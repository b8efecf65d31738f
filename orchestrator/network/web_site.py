"""The files that the web door hands out, and the policy that binds a browser to them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from aiohttp import web

from edge.bundle.folder import open_bundle, what_keeps_it_out_of_use
from edge.bundle.manifest import MANIFEST_FILE, Manifest
from edge.bundle.signing import SIGNATURE_FILE
from edge.clients.web_page import NO_PAGE
from edge.errors import BundleError
from edge.export.tflite import FIXED_SIGNATURE, TRAIN_FILE
from models.architectures import CIFG
from models.vocabulary import Vocabulary
from orchestrator.errors import ConfigError
from orchestrator.rounds.build import model_size
from orchestrator.settings.run_config import RunConfig

# No other host's script, style or picture; no script in the page itself; the page stands in nobody's frame.
POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; connect-src 'self'; "
    "style-src 'self'; img-src 'self'; font-src 'self'; manifest-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_INERT = "sandbox; default-src 'none'; frame-ancestors 'none'"


@dataclass(frozen=True)
class Bundle:
    """A bundle that phones train with. folder: of its files; manifest: as read, the list of what is handed out."""

    folder: Path
    manifest: Manifest

    @staticmethod
    def read(folder: Path) -> Bundle:
        """Returns the bundle of a folder.

        Raises:
          BundleError: see open_bundle; or it is from before browsers could train, or not to be used.
        """
        manifest, _ = open_bundle(folder)
        if hidden := what_keeps_it_out_of_use(manifest):
            raise BundleError(f"{folder}: {hidden} Export a run that audits nothing")
        if FIXED_SIGNATURE not in manifest.signatures.get(TRAIN_FILE, {}):
            raise BundleError(f"{folder} was exported before browsers could train: export the run again")
        if manifest.model.size.kind != CIFG:
            raise BundleError(
                f"{folder} holds a network of model.kind = {manifest.model.kind!r}: browsers train {CIFG!r}"
            )
        return Bundle(folder, manifest)

    def require_fit(self, config: RunConfig, vocabulary: Vocabulary) -> None:
        """Passes if browsers can train a run with it. They refuse it themselves if not.

        Raises:
          ConfigError: it was exported from a run of other words or settings.
        """
        size, plan = self.manifest.model.size, self.manifest.phase[0].plan
        for name, own, wanted in (
            ("size of the model", size, model_size(config.model, vocabulary.size)),
            ("data.max_words", plan.max_words, config.data.max_words),
            ("client.batch_size", plan.batch_size, config.client.batch_size),
            ("client.clip_norm", plan.clip_norm, config.client.clip_norm),
            ("word list", self.manifest.run.vocabulary_sha256, vocabulary.digest),
        ):
            if own != wanted:
                raise ConfigError(
                    f"{self.folder} was exported from a run of another {name}: name a bundle that fits by --bundle, or "
                    "take words and settings of its run by --config"
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
        # A bundle may list any names: whatever it holds, a browser that opens it runs nothing on the page's origin.
        inert = {"Content-Type": "application/octet-stream", "Content-Security-Policy": _INERT}
        return web.FileResponse(bundle.folder / name, headers=inert)


def require_same_origin(request: web.Request) -> None:
    """Passes a request of the page itself, and one of a program that is no browser, which names no origin.

    Raises:
      HTTPForbidden: another site's page makes it.
    """
    origin = request.headers.get("Origin")
    if origin is not None and origin != f"{request.scheme}://{request.host}":
        raise web.HTTPForbidden(text="only the page that this server hands out may ask that\n")

"""What the commands that open the web door share: its flags, where it listens, and what they print of it."""

from __future__ import annotations

import contextlib
import functools
import socket
import ssl
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

import click

from orchestrator.cli import options
from orchestrator.cli.output import log

if TYPE_CHECKING:
    from orchestrator.network.roster import Operator
    from orchestrator.network.web_door import WebDoor

_ANYWHERE = ("0.0.0.0", "[::]")
NO_PAIR: tuple[Optional[Path], Optional[Path]] = (None, None)  # neither certificate nor key


@dataclass(frozen=True)
class WebFlags:
    """What the flags say of the web door.

    Attributes:
      address: HOST:PORT.
      certificate, key: for TLS; None takes the server's from the keys, or on localhost plain HTTP.
      bundle: whose files phones load; None for none.
      phones: the number that the lobby waits for; 0 opens none.
      codes: the file that holds or gets their codes; None prints them only.
      is_alone: whether nobody can come over gRPC.
    """

    address: str
    certificate: Optional[Path]
    key: Optional[Path]
    bundle: Optional[Path]
    phones: int
    codes: Optional[Path]
    is_alone: bool


_CERTIFICATE = click.option(
    "--web-certificate",
    type=options.FILE,
    metavar="FILE",
    help="The certificate that browsers see, as PEM; by default server.pem in --keys, and on localhost plain HTTP.",
)
_KEY = click.option("--web-key", type=options.FILE, metavar="FILE", help="The private key to --web-certificate.")
_OPTIONS = (
    click.option(
        "--web", "web_address", metavar="HOST:PORT", help="Let browsers take part, too: where they reach the page."
    ),
    _CERTIFICATE,
    _KEY,
    click.option(
        "--bundle", type=options.FOLDER, metavar="DIR", help="The bundle that browsers train with, of the same words."
    ),
    click.option(
        "--phones",
        type=click.IntRange(1),
        metavar="N",
        help="Wait until N phones have enrolled by code, and put them on the roster, before the first round.",
    ),
    click.option(
        "--codes", type=options.FILE, metavar="FILE", help="Where the phones' codes are; made if it is not there."
    ),
    click.option("--web-only", is_flag=True, help="Take browsers only: do not listen for gRPC."),
)


def takes_web(function: Callable[..., object]) -> Callable[..., object]:
    """Adds the flags of the web door; the command gets `web`, a WebFlags, or None without --web."""

    @functools.wraps(function)
    def run(
        *args: object,
        web_address: Optional[str],
        web_certificate: Optional[Path],
        web_key: Optional[Path],
        bundle: Optional[Path],
        phones: Optional[int],
        codes: Optional[Path],
        web_only: bool,
        **others: Any,
    ) -> object:
        given = {
            "--web-certificate": web_certificate, "--web-key": web_key, "--bundle": bundle, "--phones": phones,
            "--codes": codes, "--web-only": web_only,
        }  # fmt: skip
        alone = [name for name, value in given.items() if value]
        if web_address is None and alone:
            raise click.UsageError(f"{alone[0]} is of the door for browsers: name where it listens by --web")
        if codes is not None and phones is None:
            raise click.UsageError("--codes names the codes of phones: say how many there are by --phones")
        web = None
        if web_address is not None:
            web = WebFlags(web_address, *pair_of(web_certificate, web_key), bundle, phones or 0, codes, web_only)
        return function(*args, web=web, **others)

    for option in reversed(_OPTIONS):
        run = option(run)
    return run


def takes_pair(function: Callable[..., object]) -> Callable[..., object]:
    """Adds --web-certificate and --web-key only."""
    return _CERTIFICATE(_KEY(function))


def pair_of(certificate: Optional[Path], key: Optional[Path]) -> tuple[Optional[Path], Optional[Path]]:
    """Returns both files or neither; raises UsageError if one is given alone."""
    if (certificate is None) != (key is None):
        raise click.UsageError("--web-certificate and --web-key go together: give both")
    return certificate, key


@contextlib.contextmanager
def open_door(flags: WebFlags, keys: Path) -> Iterator[WebDoor]:
    """Opens the door for browsers, says where it is and with which codes phones enrol, and closes it after the block.

    Raises:
      BundleError: the bundle can't be used.
      KeysError: the roster, the file of codes, or the pair for TLS can't be used.
      PortInUse: it can't listen there.
    """
    from edge.clients.web_page import NO_PAGE, page_folder
    from orchestrator.network.certificates import read_operator
    from orchestrator.network.lobby import Lobby, codes_of_file, make_codes
    from orchestrator.network.web_door import WebDoor
    from orchestrator.network.web_site import Bundle, Site

    page = page_folder()
    if page is None:
        log(NO_PAGE)
    site = Site(page, None if flags.bundle is None else Bundle.read(flags.bundle))
    codes = codes_of_file(flags.codes, flags.phones) if flags.codes is not None else make_codes(flags.phones)
    tls, certificate = tls_at(flags.address, flags.certificate, flags.key, keys)
    with WebDoor(site, Lobby(keys, codes) if codes else None) as door:
        port = door.listen(flags.address, tls)
        _announce(f"{url_of(flags.address, port, certificate)}/", codes, read_operator(keys))
        yield door


def tls_at(
    address: str, certificate: Optional[Path], key: Optional[Path], keys: Path
) -> tuple[Optional[ssl.SSLContext], Optional[Path]]:
    """Returns what a door for browsers listens with, and the certificate in it; twice None for plain HTTP.

    Args:
      address: HOST:PORT of the door.
      certificate, key: of --web-certificate and --web-key, or None.
      keys: the server's folder, whose certificate stands in for these where other machines come.

    Raises:
      KeysError: the pair can't be used.
    """
    from orchestrator.network.certificates import SERVER
    from orchestrator.network.tls import Tls, web_context
    from orchestrator.network.web_listener import is_loopback

    if certificate is not None and key is not None:
        return web_context(certificate, key), certificate
    if is_loopback(address):
        return None, None
    own = Tls.of_role(keys, SERVER)
    return web_context(own.chain, own.key), own.chain


def url_of(address: str, port: int, certificate: Optional[Path]) -> str:
    """Returns where a door is, without a path.

    Args:
      address: HOST:PORT where it listens.
      port: the one that it got.
      certificate: what it shows; None for plain HTTP.
    """
    scheme, host = ("http" if certificate is None else "https"), address.rpartition(":")[0]
    return f"{scheme}://{_name_of(host, certificate)}:{port}"


def _name_of(host: str, certificate: Optional[Path]) -> str:
    """The name that a browser calls: where the door listens; if that is everywhere, the certificate's first name."""
    if host not in _ANYWHERE or certificate is None:
        return host
    from orchestrator.network.tls import host_names

    return next(iter(host_names(certificate)), socket.gethostname())


def _announce(url: str, codes: Sequence[str], operator: Optional[Operator]) -> None:
    """Says where the page is; on a terminal as a QR code, too. One phone's code is in its address, after the #.

    With it goes the operator's fingerprint: whoever answers the enrolment can't name another signer of the roster.
    """
    signer = "" if operator is None else f"&operator={operator.fingerprint}"
    addresses = [f"{url}#code={code}{signer}" for code in codes]
    log(f"phones open {url}" if len(codes) != 1 else f"the phone opens {addresses[0]}")
    if sys.stderr.isatty():
        import segno

        segno.make(addresses[0] if len(codes) == 1 else url, error="l").terminal(out=sys.stderr, compact=True)
    for number, address in enumerate(addresses if len(codes) > 1 else (), 1):
        log(f"phone {number} enrols once at {address}")

"""The flag of the operator's page, and what opens the page around a run that is served."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Optional

import click

from orchestrator.cli.output import log
from orchestrator.cli.web import NO_PAIR, tls_at, url_of

if TYPE_CHECKING:  # a server without the page loads no aiohttp
    from orchestrator.network.progress import Progress

HERE = "localhost:0"  # this machine, on a free port
OPERATOR = click.option(
    "--operator",
    "operator_address",
    is_flag=False,
    flag_value=HERE,
    metavar="[HOST:PORT]",
    help="Show clients, rounds and costs live on a page, to whoever has the address that is printed; on this machine "
    "where no HOST:PORT is named.",
)


@contextlib.contextmanager
def operator_page(
    address: Optional[str], run: Path, keys: Path, pair: tuple[Optional[Path], Optional[Path]]
) -> Iterator[Optional[Progress]]:
    """Opens the page, says where it is, and closes it after the block; yields what it shows.

    Args:
      address: HOST:PORT; None opens no page and yields None.
      run: the run's folder.
      keys: the server's.
      pair: certificate and key that browsers trust, for other machines; or NO_PAIR.

    Raises:
      KeysError: the pair for TLS can't be used.
      PortInUse: it can't listen there.
    """
    if address is None:
        yield None
        return
    from orchestrator.network.operator_door import OperatorDoor
    from orchestrator.network.progress import Progress
    from orchestrator.network.web_listener import is_loopback
    from orchestrator.report.palette import css_variables

    light, dark = css_variables(dark=False), css_variables(dark=True)
    colours = f":root {{ {light} }}\n@media (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}\n"
    progress = Progress(run.resolve().name)
    # On this machine the page needs no TLS, and a certificate for phones has another name.
    tls, certificate = tls_at(address, *(NO_PAIR if is_loopback(address) else pair), keys)
    with OperatorDoor(progress, colours) as door:
        port = door.listen(address, tls)
        log(f"the operator's page is at {url_of(address, port, certificate)}/{door.token}/")
        yield progress

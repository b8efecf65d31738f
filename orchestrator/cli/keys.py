"""The commands of keys: keygen and enrol."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Optional

import click

from orchestrator.cli import options
from orchestrator.cli.output import Output, prints, say
from orchestrator.units import count_text

_MIN_SENTENCES = 50  # of a person whom keygen enrols


@click.command()
@click.argument("signing_key", required=False, type=options.FILE, metavar="[FILE]")
@click.option("--out", type=options.FOLDER, metavar="DIR", help="Where the keys of a network run go.")
@click.option(
    "--sign",
    "requests",
    type=options.FILE,
    multiple=True,
    metavar="REQUEST",
    help="Enrol the client that asks by this file of `fedkeys enrol`; may be given several times.",
)
@click.option(
    "--client",
    "clients",
    multiple=True,
    metavar="ID",
    help="For a trial: make this client's private keys, too; may be given several times.",
)
@click.option(
    "--people",
    type=click.IntRange(0),
    metavar="N",
    help="Enrol N training people of the built-in text, to try it on one machine; 10 without --client and --sign.",
)
@click.option(
    "--host", "hosts", multiple=True, metavar="NAME", help="Another name of the server, besides this machine's."
)
@click.option(
    "--helpers",
    "num_helpers",
    type=click.IntRange(0, 5),
    metavar="N",
    help="For a trial: make the private keys of N helpers of the split sum, too; one is the default in a new folder.",
)
@click.option(
    "--helper-key",
    "helper_files",
    type=options.FILE,
    multiple=True,
    metavar="FILE",
    help="The public key of a helper, from `fedkeys enrol --helper`; once for each, in the order of their numbers.",
)
@prints
def keygen(
    signing_key: Optional[Path],
    out: Optional[Path],
    requests: tuple[Path, ...],
    clients: tuple[str, ...],
    people: Optional[int],
    hosts: tuple[str, ...],
    num_helpers: Optional[int],
    helper_files: tuple[Path, ...],
) -> Output:
    """Make keys: FILE and FILE.pub to sign phone bundles, or with --out all that a network run needs.

    FILE signs bundles: keep it secret. FILE.pub verifies them: give it to the app. With --out, DIR gets a certificate
    authority, certificates for TLS and the roster. --sign enrols clients that made their keys by `fedkeys enrol`, whose
    private keys nobody else holds; --client and --people make private keys here, for a trial. Called again for the same
    DIR, the command enrols more clients. docs/network.md says which file belongs on which machine.

    \b
    Examples:
      fedkeys keygen signing.key
      fedkeys keygen --out keys --people 0 --host keyboard.example
      fedkeys keygen --out keys --sign ann.request.json
      fedkeys keygen --out keys --client ann --client bob
    """
    if (signing_key is None) == (out is None):
        raise click.UsageError("give FILE for a key to sign bundles, or --out DIR for the keys of a network run")
    if signing_key is not None:
        return _signing_key(signing_key)
    assert out is not None
    if num_helpers is not None and helper_files:
        raise click.UsageError("give --helpers for keys that are made here, or --helper-key for those of helpers")
    return _network_keys(out, requests, clients, hosts, people, num_helpers, helper_files)


def _signing_key(path: Path) -> Output:
    from edge.bundle.signing import generate_key

    public = generate_key(path)
    line = f"wrote {path}, which signs (keep it secret), and {public}, which verifies"
    return Output({"key": str(path), "public_key": str(public)}, partial(say, line))


def _network_keys(
    out: Path,
    requests: tuple[Path, ...],
    clients: tuple[str, ...],
    hosts: tuple[str, ...],
    people: Optional[int],
    num_helpers: Optional[int],
    helper_files: tuple[Path, ...],
) -> Output:
    from orchestrator.network.authority import make_keys
    from orchestrator.network.certificates import read_helper_keys, read_roster
    from orchestrator.network.enrolment import sign_request

    if people is None and not clients and not requests:
        people = 10
    enrolled = read_roster(out) if (out / "roster.json").exists() else {}
    clients += training_people(people or 0, {*enrolled, *clients})
    helper_keys = [key for path in helper_files for key in read_helper_keys(path)]
    make_keys(out, clients, hosts, num_helpers, helper_keys)
    signed = dict(sign_request(out, path) for path in requests)
    roster = read_roster(out)
    figures = {"keys": str(out), "clients": list(roster), "new": [*clients, *signed], "fingerprints": signed}
    lines = [f"{name}'s request has the fingerprint {fingerprint}" for name, fingerprint in signed.items()]
    newly = count_text(len(clients) + len(signed), "client")
    lines += [f"{out}: {newly} enrolled, {len(roster)} in all: {', '.join(roster)}"]
    return Output(figures, partial(say, "\n".join(lines)))


def training_people(number: int, taken: set[str]) -> tuple[str, ...]:
    """Returns training people of the built-in text who typed enough: none of them is evaluated on."""
    if number == 0:
        return ()
    from orchestrator.run.data import load_client_data
    from orchestrator.settings.run_config import RunConfig

    train = load_client_data(RunConfig())[1].train
    talkers = [name for name, own in train.items() if len(own) >= _MIN_SENTENCES and name not in taken]
    return tuple(talkers[:number])


@click.command()
@click.option("--client-id", metavar="ID", help="The name to enrol under.")
@click.option("--helper", "number", type=click.IntRange(1, 5), metavar="N", help="Make the key of helper N instead.")
@options.KEYS
@prints
def enrol(client_id: Optional[str], number: Optional[int], keys: Path) -> Output:
    """Make a client's keys and a request to enrol it, which the operator signs by `fedkeys keygen --sign`.

    The private keys stay in DIR. The request holds none: send it to the operator, and tell the fingerprint by another
    way, since who exchanges the file on its way takes part in your place. Called again, it asks for the same keys.
    With --helper it makes the key that seeds of the split sum are sealed for: the operator passes the public half, a
    file, to `fedkeys keygen --helper-key`.

    \b
    Examples:
      fedkeys enrol --client-id ann --keys keys
      fedkeys enrol --helper 1 --keys keys
    """
    if (client_id is None) == (number is None):
        raise click.UsageError("give --client-id for a client, or --helper for a helper of the split sum")
    if number is not None:
        return _helper_key(keys, number)
    assert client_id is not None
    from orchestrator.network.enrolment import ask_for_enrolment

    path, fingerprint = ask_for_enrolment(keys, client_id)
    lines = (
        f"wrote {path}: send it to the operator; the private keys stay in {keys}",
        f"its fingerprint, to be compared by another way: {fingerprint}",
    )
    return Output({"request": str(path), "fingerprint": fingerprint}, partial(say, "\n".join(lines)))


def _helper_key(keys: Path, number: int) -> Output:
    from orchestrator.network.authority import make_helper_key

    key, path = make_helper_key(keys, number).hex(), keys / f"helper-{number}_seal.pub"
    path.write_text(f"{key}\n")
    lines = (
        f"wrote {path}: send it to the operator; the private key stays in {keys}",
        f"its line in each client's helpers.pub, to be compared by another way: {key}",
    )
    return Output({"public_key": str(path), "key": key}, partial(say, "\n".join(lines)))

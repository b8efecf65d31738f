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
_FOR_A_TRIAL = (
    "{} holds the private keys of {}: for a trial only, since the server's operator can read with them what "
    "clients send under encrypted and split; `fedkeys enrol` makes them where they stay"
)


@click.command()
@click.argument("signing_key", required=False, type=options.FILE, metavar="[FILE]")
@click.option("--out", type=options.FOLDER, metavar="DIR", help="Where the keys of a network run go.")
@click.option(
    "--sign",
    "requests",
    type=options.FILE,
    multiple=True,
    metavar="REQUEST",
    help="Enrol who asks by this file of `fedkeys enrol`; may be given several times. The decryptor and the helpers "
    "are enrolled by the command that makes DIR.",
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
    authority, certificates for TLS and the roster. --sign enrols clients, decryptor and helpers that made their keys by
    `fedkeys enrol`, and that alone hold them. --client and --people make private keys here, for a trial, and so does a
    new DIR for a decryptor and helpers that did not ask. Called again for the same DIR, the command enrols
    more clients. docs/network.md says which file belongs on which machine.

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
    from orchestrator.network.certificates import (
        DECRYPTOR,
        read_helper_keys,
        read_operator,
        read_roster,
        read_signed_roster,
    )
    from orchestrator.network.enrolment import parties_of, sign_request
    from orchestrator.network.roster import provenance

    asking = parties_of(requests)
    if (num_helpers is not None or helper_files) and asking.keys() - {DECRYPTOR}:
        raise click.UsageError("helpers ask by their requests: leave --helpers and --helper-key out")
    is_new = not (out / "roster.json").exists()
    if people is None and not clients and not requests:
        people = 10
    enrolled = {} if is_new else read_roster(out)
    is_of_before = not is_new and read_operator(out) is None
    clients += training_people(people or 0, {*enrolled, *clients})
    helper_keys = [key for path in helper_files for key in read_helper_keys(path)]
    make_keys(out, clients, hosts, num_helpers, helper_keys, asking)
    signed = [sign_request(out, path) for path in requests]
    parties = {name: fingerprint for name, fingerprint, is_party in signed if is_party}
    newly = {name: fingerprint for name, fingerprint, is_party in signed if not is_party}
    whole, operator = read_signed_roster(out), read_operator(out)
    roster, held = whole.clients, sorted(path.stem.partition("_")[0] for path in out.glob("*_*.key"))
    figures: dict[str, object] = {"keys": str(out), "clients": list(roster), "new": [*clients, *newly]}
    signer = None if operator is None else operator.fingerprint
    figures.update({"fingerprints": newly, "party_fingerprints": parties, "party_keys": held, "operator": signer})
    lines = [f"{name}'s request has the fingerprint {fingerprint}" for name, fingerprint, _ in signed]
    if is_new and held:
        lines += [_FOR_A_TRIAL.format(out, ", ".join(held))]
    lines += [
        f"{out}: {count_text(len(clients) + len(newly), 'client')} enrolled, {len(roster)} in all: {', '.join(roster)}",
        provenance(whole, operator),
    ]
    if is_of_before:
        lines += [f"{out / 'operator.key'} is new: the roster is signed from here on; send operator.pub with it"]
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
@click.option("--client-id", metavar="ID", help="The name of the client to enrol.")
@click.option("--decryptor", "is_decryptor", is_flag=True, help="Make the keys of the decryptor instead.")
@click.option("--helper", "number", type=click.IntRange(1, 5), metavar="N", help="Make the keys of helper N instead.")
@options.KEYS
@prints
def enrol(client_id: Optional[str], is_decryptor: bool, number: Optional[int], keys: Path) -> Output:
    """Make the keys of a client, the decryptor or a helper, and a request to enrol it.

    The private keys stay in DIR. The request holds none: send it to the operator, who signs it by `fedkeys keygen
    --sign`, and tell the fingerprint by another way, since who exchanges the file on its way takes part in your place.
    Called again, it asks for the same keys.

    \b
    Examples:
      fedkeys enrol --client-id ann --keys keys
      fedkeys enrol --decryptor --keys keys
      fedkeys enrol --helper 1 --keys keys
    """
    if [client_id is not None, is_decryptor, number is not None].count(True) != 1:
        raise click.UsageError("give one of --client-id for a client, --decryptor and --helper")
    from orchestrator.network.enrolment import ask_as_party, ask_for_enrolment

    public = None
    if client_id is None:
        path, fingerprint, public = ask_as_party(keys, number)
    else:
        path, fingerprint = ask_for_enrolment(keys, client_id)
    figures = {"request": str(path), "fingerprint": fingerprint}
    lines = [
        f"wrote {path}: send it to the operator; the private keys stay in {keys}",
        f"its fingerprint, to be compared by another way: {fingerprint}",
    ]
    if public is not None:
        key, copy = public.read_text().strip(), "helpers.pub" if number else public.name
        figures.update({"public_key": str(public), "key": key})
        lines += [f"its line in each client's {copy}, to be compared by another way: {key}"]
    return Output(figures, partial(say, "\n".join(lines)))

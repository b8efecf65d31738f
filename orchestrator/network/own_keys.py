"""Reads whom a client takes part with from its folder of keys, and refuses what its operator did not sign."""

from __future__ import annotations

from pathlib import Path
from typing import Callable

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from orchestrator.network.certificates import read_helpers, read_operator, read_signed_roster
from orchestrator.network.errors import KeysError
from orchestrator.network.journal import Journal
from orchestrator.network.roster import Roster, provenance, require_listed


def read_own_roster(
    keys: Path, client_id: str, identity: Ed25519PrivateKey, journal: Journal, note: Callable[[str], None]
) -> Roster:
    """Returns the roster of the folder, which from then on stands in the journal: the client takes no older one.

    In a folder of before, which has no operator.pub, nothing is checked.

    Args:
      keys: a folder with roster.json and operator.pub.
      client_id: the client's name.
      identity: the client's long-term key.
      journal: what the client has seen.
      note: called with a line that says who signed.

    Raises:
      KeysError: a file is missing or damaged, or the journal can't be written.
      UntrustedRoster: the operator did not sign it, or has signed a newer one, or the client is not on it.
    """
    roster, operator = read_signed_roster(keys), read_operator(keys)
    if operator is not None:
        journal.see(roster, operator)
        require_listed(roster, client_id, identity.public_key().public_bytes_raw())
    note(provenance(roster, operator))
    return roster


def read_own_helpers(keys: Path, roster: Roster) -> tuple[bytes, ...]:
    """Returns the helpers of the split sum, as the folder's helpers.pub and a signed roster both name them.

    Raises:
      KeysError: they differ, or the file is missing or damaged.
    """
    helpers = read_helpers(keys)
    if roster.signature and helpers != roster.helpers:
        raise KeysError(
            f"{keys / 'helpers.pub'} names other helpers than the roster: ask the operator for both, and compare each "
            "line with what the helper says"
        )
    return helpers

"""Enrols phones by codes before a run's first round: whoever shows a code puts the key of its phone on the roster.

the operator    makes a code for each phone, and hands it over by a way of its own
the phone       makes its key, which never leaves it, and sends code, name, public key, and a signature over the first
                two
the server      takes each code once, and answers with the operator's key; when all phones are in it writes the roster,
                signed with that key, and the lobby is closed
"""

from __future__ import annotations

import hmac
import secrets
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import msgspec

from edge.signatures import is_signed
from models.corpus import ClientId
from models.files import write_atomically
from orchestrator.network.certificates import (
    read_key_file,
    read_operator,
    read_operator_key,
    read_roster,
    require_client_name,
    require_new_name,
    write_roster,
)
from orchestrator.network.errors import EnrolmentRefused, KeysError

_ALPHABET = "23456789ABCDEFGHJKMNPQRSTVWXYZ"  # no two of them look alike
_GROUPS, _GROUP = 3, 4  # 59 bits: guessing one takes longer than a lobby is open
_CODES_HEADER = "# Each code enrols one phone, once."
MAX_REQUEST_BYTES = 4096


class _Request(msgspec.Struct, frozen=True):
    code: Annotated[str, msgspec.Meta(max_length=64)]
    client_id: Annotated[str, msgspec.Meta(max_length=128)]
    public_key: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}\\Z")]
    signature: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{128}\\Z")]


class Lobby:
    """Takes each code once, until as many phones are enrolled as there are codes. Any thread may call it.

    Until then nobody new is on the roster: a lobby that is opened again after its process ended begins anew.

    Args:
      keys: the operator's folder of keys, with the roster of those who are enrolled already.
      codes: one for each phone, from make_codes or codes_of_file.

    Raises:
      KeysError: there is no roster, or it is damaged, or there is no key to sign it with.

    Attributes:
      operator: signs the roster; None in a folder of before, where nobody does.
    """

    def __init__(self, keys: Path, codes: Sequence[str]):
        self._keys, self._codes = keys, tuple(map(_plain, codes))
        self.operator = read_operator(keys)
        if self.operator is not None:
            read_operator_key(keys, self.operator)  # before anybody comes: it signs the roster when the lobby closes
        self._roster = read_roster(keys)
        self._by_code: dict[str, tuple[ClientId, bytes]] = {}
        self._changed = threading.Condition()

    @property
    def num_clients(self) -> int:
        """The number of clients on the roster when it is complete."""
        return len(self._roster) + self.wanted

    @property
    def wanted(self) -> int:
        """The number of phones that it waits for."""
        return len(self._codes)

    @property
    def enrolled(self) -> int:
        """The number of phones that are in."""
        return len(self._by_code)

    def enrol(self, request: bytes) -> ClientId:
        """Enrols the phone that sent the request, JSON of code, client_id, public_key and signature; returns its name.

        A phone that did not hear the answer may send the same again.

        Raises:
          EnrolmentRefused: the code is none, or was used; the name or the key is taken, or the request proves nothing.
        """
        try:
            asked = msgspec.json.decode(request, type=_Request)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise EnrolmentRefused("this is no request to enrol: load the page again") from None
        client_id, public_key = ClientId(asked.client_id), bytes.fromhex(asked.public_key)
        try:
            require_client_name(client_id)
        except KeysError as error:
            raise EnrolmentRefused(str(error)) from None
        if not is_signed(bytes.fromhex(asked.signature), public_key, enrolment_bytes(asked.code, client_id)):
            raise EnrolmentRefused("the request is not signed with the key that it names: load the page again")
        code = self._known(asked.code)  # last, so that nothing but a whole request tells a used code from none
        with self._changed:
            before = self._by_code.get(code)
            if before is None:
                self._require_free(client_id, public_key)
                self._add(code, client_id, public_key)
            elif before != (client_id, public_key):
                raise _unknown_code()
        return client_id

    def wait(self) -> dict[ClientId, bytes]:
        """Returns the roster once all phones are in and it is written."""
        with self._changed:
            self._changed.wait_for(lambda: self.enrolled == self.wanted)
            return self._whole()

    def _add(self, code: str, client_id: ClientId, public_key: bytes) -> None:
        if self.enrolled + 1 == self.wanted:
            write_roster(self._keys, {**self._whole(), client_id: public_key})
        self._by_code[code] = client_id, public_key
        self._changed.notify_all()

    def _whole(self) -> dict[ClientId, bytes]:
        return {**self._roster, **dict(self._by_code.values())}

    def _known(self, code: str) -> str:
        """Returns the code as it was made. All are compared, each in constant time: the time tells nothing."""
        given = _plain(code).encode()
        found = [own for own in self._codes if hmac.compare_digest(own.encode(), given)]
        if not found:
            raise _unknown_code()
        return found[0]

    def _require_free(self, client_id: ClientId, public_key: bytes) -> None:
        self._roster = read_roster(self._keys)  # the operator may have signed others in meanwhile
        taken = self._whole()
        try:
            require_new_name(client_id, taken)
        except KeysError as error:
            raise EnrolmentRefused(str(error)) from None
        if client_id in taken:
            raise EnrolmentRefused(f"the name {client_id} is taken: choose another one")
        if public_key in taken.values():
            raise EnrolmentRefused("this key is enrolled under another name: make a new one")


def make_codes(number: int) -> list[str]:
    """Returns new codes, each of three groups of four letters and digits."""
    return [
        "-".join("".join(secrets.choice(_ALPHABET) for _ in range(_GROUP)) for _ in range(_GROUPS))
        for _ in range(number)
    ]


def codes_of_file(path: Path, number: int) -> list[str]:
    """Returns the codes that a file holds, a line each; makes them, and the file, if there is none.

    Raises:
      KeysError: it holds another number of codes, or two that are alike, or can't be read.
    """
    if not path.exists():
        write_atomically(path, "\n".join([_CODES_HEADER, *make_codes(number), ""]).encode(), private=True)
    lines = [line.strip() for line in read_key_file(path).decode("ascii", "replace").splitlines()]
    codes = [line for line in lines if line and not line.startswith("#")]
    if len(codes) != number or len(set(map(_plain, codes))) != number or not all(map(_is_long_enough, codes)):
        raise KeysError(
            f"{path}: {number} phones need as many codes, a line each, all different and of {_GROUPS * _GROUP} letters "
            "and digits: name a file that is not there yet, and it is made"
        )
    return codes


def enrolment_bytes(code: str, client_id: str) -> bytes:
    """Returns the bytes that a phone signs to enrol."""
    return b"fedkeys web 1 enrol\0" + code.encode() + b"\0" + client_id.encode()


def _plain(code: str) -> str:
    """The code without what people add or leave out when they type it."""
    return "".join(filter(str.isalnum, code)).upper()


def _is_long_enough(code: str) -> bool:
    return len(_plain(code)) >= _GROUPS * _GROUP


def _unknown_code() -> EnrolmentRefused:
    return EnrolmentRefused("this code enrols nobody, or was used: ask the operator for another one")

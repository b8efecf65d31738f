"""How messages become bytes and back, for each protocol: msgpack arrays [type/version, field, field, ...].

A protocol's messages are structs that derive from `Wire` and declare their lengths in their types, so that a decoder
refuses every other length, type and version. No error quotes the bytes: they may hold secrets.
"""

from __future__ import annotations

import functools
from typing import TypeVar

import msgspec


class Wire(msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True):
    """A message or a part of one; its repr names the type only, since fields may be secret or long."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}(...)"

    def __rich_repr__(self) -> list[tuple[str, object]]:
        return []


M = TypeVar("M", bound=Wire)
_encoder = msgspec.msgpack.Encoder()


def exactly(num_bytes: int) -> msgspec.Meta:
    """The constraint that a field of bytes has this length, for use in typing.Annotated."""
    return msgspec.Meta(min_length=num_bytes, max_length=num_bytes)


def encode(message: Wire) -> bytes:
    """Returns the message's bytes."""
    return _encoder.encode(message)


def as_one_line(text: str) -> str:
    r"""Returns a text that somebody else wrote as one line that is safe to log: what can't be printed is written out.

    >>> print(as_one_line("no\nround 3: ann struck off\x1b[2J\u202e"))
    no\nround 3: ann struck off\x1b[2J\u202e
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def decode(octets: bytes, message_type: type[M], max_bytes: int, error: type[Exception]) -> M:
    """Returns the message of the expected type that the bytes hold.

    Args:
      octets: the bytes as received; a field of type memoryview stays a view of them.
      message_type: a struct that derives from Wire.
      max_bytes: the longest that such a message may be here.
      error: the type of what is raised.

    Raises:
      error: the bytes are too many, of another type or version, of a wrong length, followed by others, or no msgpack
        at all.
    """
    name = message_type.__name__
    if len(octets) > max_bytes:
        raise error(f"{name}: {len(octets)} bytes, at most {max_bytes} allowed")
    return decode_by(_decoder(message_type), octets, error(f"{name}: {len(octets)} bytes that are not such a message"))


def decode_by(decoder: msgspec.msgpack.Decoder[M], octets: bytes, refusal: Exception) -> M:
    """Returns what the decoder reads in the bytes, or raises the refusal."""
    try:
        return decoder.decode(octets)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise refusal from None


@functools.cache
def _decoder(message_type: type[M]) -> msgspec.msgpack.Decoder[M]:
    return msgspec.msgpack.Decoder(message_type)

"""TLS between the parties of a network run: each shows a certificate of the run's CA, and each looks at the other's."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

import grpc
from cryptography import x509

from orchestrator.network.certificates import LOOPBACK, client_tls_files, read_key_file, role_name
from orchestrator.network.errors import KeysError


@dataclass(frozen=True)
class Tls:
    """The files of one party's TLS.

    Attributes:
      ca: the certificate of the run's CA, by which the other side is known.
      chain: the party's own certificate.
      key: the private key to it.
    """

    ca: Path
    chain: Path
    key: Path

    @staticmethod
    def of_role(keys: Path, role: str) -> Tls:
        """Returns the files of the server, the decryptor or a helper in a folder of keys."""
        return Tls(keys / "ca.pem", keys / f"{role}.pem", keys / f"{role}.key")

    @staticmethod
    def of_client(keys: Path, client_id: str) -> Tls:
        """Returns a client's files in a folder of keys."""
        return Tls(keys / "ca.pem", *client_tls_files(keys, client_id))

    def listening(self) -> grpc.ServerCredentials:
        """Returns what a server listens with: it talks to nobody without a certificate of the CA.

        Raises:
          KeysError: a file can't be read.
        """
        pair = (read_key_file(self.key), read_key_file(self.chain))
        return grpc.ssl_server_credentials([pair], read_key_file(self.ca), require_client_auth=True)

    def calling(self) -> grpc.ChannelCredentials:
        """Returns what a channel is opened with.

        Raises:
          KeysError: a file can't be read.
        """
        return grpc.ssl_channel_credentials(*map(read_key_file, (self.ca, self.key, self.chain)))

    def context(self) -> ssl.SSLContext:
        """Returns the same for a connection of Python's ssl, which speaks HTTP/2.

        Raises:
          KeysError: a file can't be read or holds no certificate or key.
        """
        context = ssl.create_default_context(cadata=read_key_file(self.ca).decode("ascii", "replace"))
        read_key_file(self.chain), read_key_file(self.key)
        context.load_cert_chain(self.chain, self.key)
        context.set_alpn_protocols(["h2"])
        return context


def is_caller(context: grpc.ServicerContext, role: str, name: str = "") -> bool:
    """Returns whether the certificate at the other end of a call is of this role, and of this name if one is given."""
    found = context.auth_context()
    roles, names = found.get("x509_subject_alternative_name", ()), found.get("x509_common_name", ())
    return role_name(role).encode() in roles and (not name or list(names) == [name.encode()])


def web_context(chain: Path, key: Path) -> ssl.SSLContext:
    """Returns what a server for browsers listens with: it asks for no certificate.

    Args:
      chain: the certificate and those up to the CA's, as PEM.
      key: the private key to it.

    Raises:
      KeysError: a file can't be read, or the two are no pair.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    read_key_file(chain), read_key_file(key)
    try:
        context.load_cert_chain(chain, key)
    except ssl.SSLError:
        raise KeysError(f"{chain} and {key} are no certificate and its private key, as PEM: name a pair") from None
    return context


def host_names(path: Path) -> list[str]:
    """Returns the names and addresses that a certificate stands for, without those of this machine and of roles.

    Raises:
      KeysError: the file can't be read, or holds no certificate.
    """
    try:
        certificate = x509.load_pem_x509_certificate(read_key_file(path))
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    except ValueError:
        raise KeysError(f"{path} holds no certificate: name one as PEM") from None
    found = [*names.get_values_for_type(x509.DNSName), *map(str, names.get_values_for_type(x509.IPAddress))]
    return [name for name in found if name not in LOOPBACK and not name.endswith(role_name(""))]

"""The form of runtime.workers."""

from __future__ import annotations

import re

from orchestrator.errors import ConfigError


def check_workers(spec: str) -> None:
    """Checks, before TFF is imported, that runtime.workers is 'auto', a number, or host:port,host:port.

    Raises:
        ConfigError: it is neither.
    """
    if spec == "auto" or re.fullmatch(r"[1-9]\d{0,3}", spec):
        return
    for address in spec.split(","):
        match = re.fullmatch(r"\s*(?:[\w.-]+|\[[0-9a-fA-F:]+\]):(\d{1,5})\s*", address)
        if not match or not 1 <= int(match[1]) <= 65535:
            raise ConfigError(
                f"runtime.workers = {spec!r}: {address.strip()!r} is not host:port; "
                "write 'auto', a number of workers, or host:port,host:port"
            )

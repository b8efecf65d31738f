"""Writes seconds, bytes and shares as people read them."""

from __future__ import annotations

from typing import Optional


def duration_text(seconds: float) -> str:
    """Returns seconds in seconds, minutes or hours, with their units.

    >>> duration_text(7.25), duration_text(431), duration_text(6600)
    ('7.25 s', '7 min 11 s', '1 h 50 min')
    """
    if seconds < 60:
        return f"{seconds:.{2 if seconds < 10 else 1}f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def size_text(num_bytes: float) -> str:
    """Returns bytes in decimal units, with three digits.

    >>> size_text(0), size_text(1_761_828), size_text(31_700_000_000)
    ('0 B', '1.76 MB', '31.7 GB')
    """
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if num_bytes >= factor:
            digits = max(0, 3 - len(f"{num_bytes / factor:.0f}"))
            return f"{num_bytes / factor:,.{digits}f} {unit}"
    return f"{num_bytes:.0f} B"


def points_text(share: float) -> str:
    """Returns a difference of shares in percentage points, with its sign.

    >>> points_text(-0.00512), points_text(0.2)
    ('−0.51', '+20.00')
    """
    return f"{100 * share:+.2f}".replace("-", "−")


def percent_text(share: Optional[float]) -> str:
    """Returns a share in percent, or nothing for None.

    >>> percent_text(0.1894)
    '18.94%'
    """
    return "" if share is None else f"{share:.2%}"


def interval_text(interval: Optional[tuple[float, float]]) -> str:
    """Returns an interval of shares in percent, or nothing for None.

    >>> interval_text((0.18, 0.2))
    '18.00% to 20.00%'
    """
    return "" if interval is None else f"{interval[0]:.2%} to {interval[1]:.2%}"

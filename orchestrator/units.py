"""Writes seconds, bytes, shares and counts as people read them."""

from __future__ import annotations

from typing import Optional

from models.disclosure import MIN_GROUP, size_of_worst_tenth

TOO_FEW = f"under {MIN_GROUP} people: not shown"
NOT_SHOWN = "–"  # in a table's cell, beside a line with TOO_FEW


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


def worst_tenth_text(mean: Optional[float], people: int) -> str:
    """Returns the worst tenth's mean share in percent, or NOT_SHOWN if that tenth of the people is too few.

    >>> worst_tenth_text(0.125, 100), worst_tenth_text(0.125, 90), worst_tenth_text(None, 100)
    ('12.50%', '–', '–')
    """
    return NOT_SHOWN if mean is None or not size_of_worst_tenth(people) else percent_text(mean)


def count_text(count: int, noun: str) -> str:
    """Returns a count with its noun in the singular or the plural.

    >>> count_text(1, "update"), count_text(12_000, "update"), count_text(0, "test person")
    ('1 update', '12,000 updates', '0 test people')
    """
    if count == 1:
        return f"1 {noun}"
    return f"{count:,} {noun[: -len('person')]}people" if noun.endswith("person") else f"{count:,} {noun}s"

"""Cuts what is written without spaces between words, as Chinese, Japanese and Thai are, by ICU's break iterator.

ICU comes with the package icu4py, which fedkeys runs without: docs/install.md says how to add it. Its dictionaries
change from version to version, so a run notes ICU's version and a bundle's vectors show whether another one cuts alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Optional

from models.errors import SegmenterError

NO_SEGMENTER, ICU = "none", "icu"
_LOCALE = "en"  # a dictionary is chosen by the script; the locale decides other things


def icu_version() -> Optional[str]:
    """Returns the version of ICU, None without the package."""
    try:
        import icu4py
    except ImportError:
        return None
    return str(icu4py.icu_version)


def require_segmenter(segmenter: str) -> None:
    """Passes if text can be cut so here.

    Raises:
      SegmenterError: ICU is asked for, and the package is not installed.
    """
    if segmenter == ICU and icu_version() is None:
        raise SegmenterError(
            "segmenter 'icu' cuts words by ICU, which is not installed: `pip install --no-deps icu4py` brings it "
            "(for Python 3.10 and later; there is none for 3.9)"
        )


@lru_cache(maxsize=1 << 16)
def icu_parts(text: str) -> tuple[str, ...]:
    """Returns the words that ICU finds in a text, in order, and what stands between them."""
    from icu4py.breakers import WordBreaker

    return tuple(WordBreaker(text, _LOCALE))


# Segmenters by the names that settings and manifests give them: the parts of a text, in order.
SEGMENTERS: Mapping[str, Callable[[str], Sequence[str]]] = {NO_SEGMENTER: lambda text: (text,), ICU: icu_parts}

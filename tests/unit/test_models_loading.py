"""While a large module is imported, Python looks for no garbage; what was there before is collected, and no more."""

from __future__ import annotations

import gc
import weakref

import pytest

from models.loading import loading


class Ring:
    """An object that holds itself."""

    def __init__(self):
        self.own = self


@pytest.fixture(autouse=True)
def thawed():
    assert gc.isenabled()
    yield
    gc.unfreeze()
    assert gc.isenabled()


def test_the_collector_rests_in_it_and_passes_over_what_it_leaves():
    before = weakref.ref(Ring())
    frozen = gc.get_freeze_count()
    with loading("no_such_module"):
        assert before() is None
        assert not gc.isenabled()
        assert gc.get_freeze_count() == frozen
    assert gc.isenabled()
    assert gc.get_freeze_count() > frozen + 1000
    after = weakref.ref(Ring())
    gc.collect()
    assert after() is None


def test_an_import_that_fails_leaves_the_collector_on():
    with pytest.raises(ImportError), loading("no_such_module"):
        import no_such_module  # noqa: F401
    assert gc.isenabled()


def test_it_does_nothing_where_the_module_is_there_or_the_collector_is_off():
    frozen = gc.get_freeze_count()
    with loading("gc"):
        assert gc.isenabled()
    gc.disable()
    with loading("no_such_module"):
        pass
    assert not gc.isenabled()
    gc.enable()
    assert gc.get_freeze_count() == frozen

"""What the card says of phrases that were planted to see what the model remembers."""

from __future__ import annotations

from types import SimpleNamespace

import msgspec

from orchestrator.audit.leakage_results import AuditResult, Exposed, Exposure, OneRun, OneShot, Stated
from orchestrator.release.model_card import _Found, write_card
from orchestrator.release.provenance import CARD_FILE
from orchestrator.run.results import write_figures
from orchestrator.run.saved import read_run

EXPOSURE = Exposure(
    12.0, {"1": Exposed(8, 2.875, 5.0), "4": None}, never_took_part=None, never_planted=Exposed(24, 1.375, 4.0)
)
AUDIT = AuditResult(
    1, "none", 0.0, 1.0, 99, 1e-3, Stated(None, None), OneShot(256, 0.1, 0.1, 0.1, None, None),
    OneRun(1000, 200, 200, 0.95, 4.0), EXPOSURE,
)  # fmt: skip


def card_beside(folder, audit):
    write_figures(folder.path / "audit.json", audit)
    write_card(read_run(folder), None)
    return (folder.path / CARD_FILE).read_text()


def test_a_card_has_the_exposure_of_planted_phrases_beside_those_never_planted(folder):
    card = card_beside(folder, AUDIT)
    assert "| typed 1 time | 8 | 2.9 | 5.0 |" in card
    assert "| never planted | 24 | 1.4 | 4.0 |" in card
    assert "planted in the text of this training" in card
    copied = msgspec.structs.replace(AUDIT, exposure=msgspec.structs.replace(EXPOSURE, of_copy=True))
    assert "planted in the text of a copy of this training" in card_beside(folder, copied)
    assert "rounds in place of" not in card_beside(folder, copied)
    shorter = msgspec.structs.replace(AUDIT, exposure=msgspec.structs.replace(copied.exposure, copy_rounds=300))
    assert "trained for 300 rounds in place of 1." in card_beside(folder, shorter)


def test_a_card_with_an_epsilon_leaves_out_the_figures_of_a_copy():
    copied = msgspec.structs.replace(EXPOSURE, of_copy=True)

    def shown(exposure, mechanism):
        privacy = SimpleNamespace(mechanism=mechanism)
        return _Found(None, None, False, None, False, exposure, privacy).published_exposure

    assert shown(copied, "matrix") is None
    assert shown(EXPOSURE, "matrix") == EXPOSURE  # of the very model that has the epsilon
    assert shown(copied, "none") == copied


def test_an_audit_of_other_weights_or_without_phrases_is_not_on_the_card(folder):
    for other in (msgspec.structs.replace(AUDIT, round_num=7), msgspec.structs.replace(AUDIT, exposure=None)):
        card = card_beside(folder, other)
        assert "never planted" not in card
        assert "Not measured for these weights: `fedkeys audit --run DIR --copy COPY`" in card

"""What is said of a damaged file of figures: the command that finds them anew, if there is one."""

from __future__ import annotations

import pytest

from orchestrator.errors import RunFolderError
from orchestrator.evaluation.ngram_release import read_release
from orchestrator.evaluation.results import read_evaluation
from orchestrator.privacy.ledger import Ledger, LedgerHead
from orchestrator.run.pretrained import read_pretrained
from orchestrator.run.spent import spent_on_words


@pytest.mark.parametrize(
    ("file", "read", "mend"),
    [
        ("evaluation.json", read_evaluation, "run `fedkeys evaluate --run {run}`"),
        ("vocabulary.json", spent_on_words, "restore it"),  # found before round 1, at an epsilon
        ("pretrained.json", read_pretrained, "restore it"),
        ("private_ngram/release.json", read_release, "restore it"),  # a second release would cost again
    ],
)
def test_the_advice_is_a_command_that_there_is(tmp_path, file, read, mend):
    (tmp_path / "private_ngram").mkdir()
    Ledger(tmp_path / "private_ngram", LedgerHead("central", 2.0, 1.0, 20, 1e-3, 0.0, 1, 1, "-"))
    path = tmp_path / file
    path.write_text("{")
    with pytest.raises(RunFolderError) as refused:
        read(tmp_path)
    assert str(refused.value).startswith(f"{path} is damaged (")
    assert str(refused.value).endswith(f"): {mend.format(run=tmp_path)}")

"""`millrace versions`, `quarantine`, `reinstate` and `retire`."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.ledger import artifact, evidence, promoted

from millrace.core.settings import Settings
from millrace.ledger import Ledger, Registered


@pytest.fixture
def ledger(shop: Path) -> Ledger:
    """Versions 1 and 2 of visits; version 1 is champion."""
    settings = Settings.load(shop, {})
    settings.home.mkdir(exist_ok=True)
    ledger = Ledger.open(settings.ledger)
    for version in (1, 2):
        ledger.record(
            Registered(pipeline="visits", version=version, model=artifact("model", version),
                       evidence=evidence(version), decision=None, run=None, requester=None)
        )  # fmt: skip
    promoted(ledger, 1, pipeline="visits")
    return ledger


def test_a_champion_in_quarantine_is_told_wherever_one_looks(millrace, ledger):
    assert millrace("versions", "visits").out == "version 1: champion\nversion 2: candidate\n"

    said = millrace("quarantine", "visits", 1, "--reason", "it leaks the label")

    assert said.code == 0 and said.out.startswith("visits version 1: quarantined\nIt is still the champion of record")
    assert "version 1: quarantined, AND STILL THE CHAMPION OF RECORD" in millrace("versions", "visits").out
    assert "QUARANTINED: it leaks the label" in millrace("champion", "visits").out
    assert millrace("reinstate", "visits", 1, "--reason", "it does not").out == "visits version 1: champion\n"
    assert "QUARANTINED" not in millrace("champion", "visits").out


def test_what_must_not_be_is_refused_in_words(millrace, ledger):
    for words, message in (
        (("retire", "visits", 1, "--reason", "old"), "version 1 is champion: it cannot become retired"),
        (("quarantine", "visits", 7, "--reason", "x"), "no such version of visits was registered"),
        (("quarantine", "visits", 2, "--reason", "  "), "it needs a reason"),
        (("quarantine", "nobody", 2, "--reason", "x"), "nobody"),
    ):
        said = millrace(*words)
        assert said.code == 1 and message in said.err, words

    assert millrace("retire", "visits", 2, "--reason", "old").out == "visits version 2: retired\n"
    assert millrace("reinstate", "visits", 2, "--reason", "x").code == 1

"""The model card: one page that asks for nothing, says what the documents say, and lets no text be more than text."""

from __future__ import annotations

import dataclasses
import json
import sys
from html.parser import HTMLParser

import pyarrow.parquet as pq
import pytest
from support.project import DAYS, PIPELINE

from millrace.cli import app
from millrace.cli.evidence import card_of, subject
from millrace.core.canonical import canonical_json
from millrace.evidence import card as cards
from millrace.evidence.card import Card
from millrace.evidence.subject import evidence_of
from millrace.mlflow.registry import find_versions
from millrace.mlflow.runs import connect
from millrace.rules.evidence import Evidence
from millrace.store import SnapshotStore, layout


class Read(HTMLParser):
    """Text, tags and addresses of a page."""

    def __init__(self, html: bytes) -> None:
        super().__init__()
        self.text, self.tags, self.addresses = "", set(), []
        self.feed(html.decode())

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_starttag(self, tag, attrs) -> None:
        self.tags.add(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href", "action", "srcset", "style")]


@pytest.fixture
def card(whole) -> Card:
    evidence = evidence_of(whole.site.objects, whole.site.ledger.registered(PIPELINE, 1).evidence)
    return cards.read(whole.site.objects, evidence, whole.site.spec)


def test_a_promoted_versions_card_says_all_and_loads_nothing(whole):
    html = card_of(subject(whole.site.settings, whole.site.ledger, PIPELINE, 1))
    page = Read(html)
    for word in (
        "Model card: orders version 1", "Intended use", "To try Millrace on sample data.", "Tier", "Limitations",
        "log_loss", f"14, {DAYS[0]} to {DAYS[13]}", "28 of 28 passed", "14 partitions agree", "Asked for by", "ann",
        "environment dev", "automatic", "rounds", "x86_64", "holds", "sha256:",
    ):  # fmt: skip
        assert word in page.text, word
    assert page.tags <= {"html", "head", "meta", "title", "style", "body", "h1", "h2", "p", "table", "tr", "th", "td",
                         "code", "img", "span"}  # fmt: skip
    assert page.addresses and all(address.startswith("data:image/png;base64,") for address in page.addresses)
    assert b"default-src 'none'" in html and b"@media print" in html


def test_no_text_of_spec_reason_or_check_is_more_than_text(card):
    bad = "<script>alert(1)</script><img src=http://x/y onerror=z>\"'"
    said = json.loads(canonical_json(card.evidence)) | {"reason": bad, "requester": bad}
    said["checks"][0] |= {"message": bad, "name": bad}
    said["training"]["learner"]["kind"] = bad
    inventory = card.spec.inventory.model_copy(update={"intended_use": bad, "limitations": bad})
    spec = card.spec.model_copy(update={"description": bad, "owner": bad, "inventory": inventory})
    evaluation = card.evaluation | {
        "fairness": [{"metric": bad, "groups": {bad: [{"group": bad, "rows": 1, "value": 0.5}]}}],
        "duel": {"slices": {bad: {"rows": 3, "difference": 0.1, "low": None, "high": 0.2}}},
    }
    page = Read(cards.render(dataclasses.replace(card, evidence=Evidence.read(said), spec=spec, evaluation=evaluation)))
    assert "script" not in page.tags and page.text.count(bad) >= 12
    assert all(address.startswith("data:") for address in page.addresses)


def test_before_its_promotion_it_says_that_nobody_approved(card):
    assert "Not promoted when this was written." in Read(cards.render(card)).text


def test_it_is_stored_at_registration_and_linked_from_mlflow(whole):
    stored = whole.site.ledger.registered(PIPELINE, 1).evidence
    html = whole.site.objects.get(layout.card(PIPELINE, stored.digest))
    assert "Model card: orders" in Read(html).text
    (version,) = find_versions(connect(whole.site.settings.mlflow), PIPELINE, {})
    assert version.tags["millrace.card"] == whole.site.objects.url(layout.card(PIPELINE, stored.digest))


def test_no_value_of_a_column_that_is_not_public_is_in_it(whole, card):
    """The visits' ids are internal; each is in the training set, and none in the page."""
    html, data = cards.render(card).decode(), card.evidence.training_set
    ids = pq.read_table(SnapshotStore(whole.site.objects).path(data.uri, data.digest))["visit_id"].to_pylist()
    assert len(ids) > 1000 and not any(f">{each}<" in html for each in ids)


def test_the_commands_write_it_and_verify(whole, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(whole.root)

    def call(*words: str) -> int:
        monkeypatch.setattr(sys, "argv", ["millrace", *words])
        try:
            app.main()
        except SystemExit as end:
            return int(end.code or 0)
        return 0

    assert call("card", PIPELINE, "1", "-o", str(tmp_path / "card.html")) == 0
    assert (tmp_path / "card.html").read_bytes().startswith(b"<!DOCTYPE html>")
    assert call("evidence", PIPELINE, "1") == 0
    out = capsys.readouterr().out
    assert "WRONG" not in out and out.count("holds") >= 10
    assert call("evidence", PIPELINE, "9") == 1
    assert "no such version of orders was registered" in capsys.readouterr().err
    assert call("reproduce", PIPELINE, "1") == 0
    assert "version 1: reproduced, equal bytes" in capsys.readouterr().out

"""A model that was trained elsewhere passes the same jobs, and its Evidence claims no training here."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xgboost as xgb
from mlflow import MlflowClient
from support import graphs
from support.project import PIPELINE
from support.whole import Whole

from millrace.airflow.runtime.site import Site
from millrace.cli.evidence import card_of, subject
from millrace.cli.importing import Brought, bring
from millrace.core.errors import MillraceError
from millrace.evidence.subject import evidence_of
from millrace.evidence.verification import verify
from millrace.ledger import Registered
from millrace.mlflow.registry import find_versions
from millrace.models.encoding import Encoder
from millrace.models.files import load
from millrace.store import SnapshotStore


@pytest.fixture
def house(whole, tmp_path) -> Any:
    """A copy of the project with its champion."""
    root = tmp_path / "shop"
    shutil.copytree(whole.root, root)
    for line in (root / ".millrace").glob("*.db"):
        data = line.read_bytes()
        assert data
    Site.at.cache_clear()
    yield Whole(root)
    Site.at.cache_clear()


def trained_elsewhere(house: Whole, path: Path, rounds: int = 40, **params: Any) -> tuple[Path, Path]:
    """A booster trained on the champion's rows by other code, and the card that says how features become numbers."""
    stored = evidence_of(house.site.objects, house.site.ledger.registered(PIPELINE, 1).evidence)
    card = json.loads(house.site.objects.get(stored.model.uri + "model.json"))
    table = SnapshotStore(house.site.objects).read(stored.training_set.uri, stored.training_set.digest)
    rows = Encoder.model_validate(card["encoder"]).encode(table)
    label = np.asarray(table["ordered"].to_numpy(), dtype=np.float64)
    given = {"objective": "binary:logistic", "max_depth": 3, "eta": 0.1, "seed": 1, **params}
    booster = xgb.train(given, xgb.DMatrix(rows.values, label), rounds)
    path.write_bytes(bytes(booster.save_raw("ubj")))
    beside = path.with_name("model.json")
    beside.write_text(json.dumps(card))
    return path, beside


def brought(house: Whole, file: Path, card: Path | None, **more: Any) -> tuple[Brought, list[str]]:
    said: list[str] = []
    site = house.site
    given = {"reason": "the vendor's", "by": "eve", "card": card, "until": None, "say": said.append, **more}
    return bring(site.tree, site.settings, site.ledger, PIPELINE, file, **given), said


def test_an_imported_model_is_judged_registered_promoted_and_verified_like_another(house, tmp_path):
    file, card = trained_elsewhere(house, tmp_path / "theirs.ubj")
    found, said = brought(house, file, card)
    assert found == Brought(2, True) and all(line.startswith("passed") for line in said)
    registered = house.site.ledger.registered(PIPELINE, 2)
    assert registered.requester == "eve" and registered.fought == house.site.ledger.champion(PIPELINE).model_digest
    evidence = evidence_of(house.site.objects, registered.evidence)
    assert evidence.training is None and evidence.imported.by == "eve" and evidence.imported.format == "ubj"
    assert evidence.duel["champion"] == registered.fought and evidence.decision == "imported"
    # the same file again is nothing new
    assert brought(house, file, card)[0].version == 2
    assert len(house.site.ledger.versions(PIPELINE)) == 2
    # and it is released, signed and verified as any other
    assert house.release(2)["version"] == 2
    findings = verify(subject(house.site.settings, house.site.ledger, PIPELINE, 2))
    assert not [each for each in findings if each.holds is False], findings
    html = card_of(subject(house.site.settings, house.site.ledger, PIPELINE, 2)).decode()
    assert "trained elsewhere" in html and "brought in by eve" in html and "Learner: rounds" not in html


def test_an_import_that_was_killed_before_its_version_was_on_record_is_taken_up(house, tmp_path, monkeypatch):
    file, card = trained_elsewhere(house, tmp_path / "theirs.ubj")
    ledger = house.site.ledger
    record = ledger.record

    def killed(event: Any) -> Any:
        if isinstance(event, Registered):
            raise KeyboardInterrupt
        return record(event)

    monkeypatch.setattr(ledger, "record", killed)
    with pytest.raises(KeyboardInterrupt):
        brought(house, file, card, by="o'brien")
    monkeypatch.undo()
    before = [v.version for v in find_versions(MlflowClient(house.site.settings.mlflow), PIPELINE, {})]

    version = brought(house, file, card, by="o'brien")[0].version

    after = [v.version for v in find_versions(MlflowClient(house.site.settings.mlflow), PIPELINE, {})]
    assert after == before and version == int(before[-1])


def test_a_graph_is_judged_registered_promoted_and_verified_like_another(house, tmp_path):
    trees, card = trained_elsewhere(house, tmp_path / "theirs.ubj")
    booster, said = xgb.Booster(model_file=trees), json.loads(card.read_text())
    file = tmp_path / "theirs.onnx"
    file.write_bytes(graphs.data(graphs.of_booster(booster, len(said["encoder"]["features"]))))
    found, words = brought(house, file, card)
    assert found == Brought(2, True) and all(line.startswith("passed") for line in words)
    evidence = evidence_of(house.site.objects, house.site.ledger.registered(PIPELINE, 2).evidence)
    assert evidence.imported.format == "onnx" and evidence.training is None
    model = load(house.site.objects, evidence.model.uri, evidence.model.digest)
    table = SnapshotStore(house.site.objects).read(evidence.training_set.uri, evidence.training_set.digest)
    expected = booster.inplace_predict(model.card.encoder.encode(table).values)
    assert model.predict(table) == pytest.approx(expected, abs=1e-5) and np.std(expected) > 0.01
    assert house.release(2)["version"] == 2
    findings = verify(subject(house.site.settings, house.site.ledger, PIPELINE, 2))
    assert not [each for each in findings if each.holds is False], findings
    html = card_of(subject(house.site.settings, house.site.ledger, PIPELINE, 2)).decode()
    assert "a file of format onnx" in html


def test_a_worse_model_does_not_pass_and_is_not_registered(house, tmp_path):
    file, card = trained_elsewhere(house, tmp_path / "worse.ubj", rounds=1, base_score=0.99, eta=1e-6)
    found, said = brought(house, file, card)
    assert found == Brought(None, False) and any(line.startswith("FAILED") for line in said)
    assert len(house.site.ledger.versions(PIPELINE)) == 1


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("m.ubj", b"\x80\x04\x95pickle", "format that holds no code"),
        ("m.safetensors", b"\x00" * 20, "format that holds no code|do not say of which layers|another learner"),
        ("m.pkl", b"\x80\x04.", "no format that can be imported"),
        ("m.onnx", b"\x08\x07", "holds more than an ONNX model"),
        ("m.ubj", "cut", "format that holds no code"),
    ],
)
def test_what_is_no_model_of_its_format_is_refused(house, tmp_path, name, data, words):
    whole, card = trained_elsewhere(house, tmp_path / "whole.ubj")
    file = tmp_path / name
    file.write_bytes(whole.read_bytes()[:-7] if data == "cut" else data)
    with pytest.raises(MillraceError, match=words):
        brought(house, file, card)
    assert len(house.site.ledger.versions(PIPELINE)) == 1


def test_what_the_file_does_not_say_is_not_guessed(house, tmp_path):
    file, card = trained_elsewhere(house, tmp_path / "theirs.ubj")
    with pytest.raises(MillraceError, match="which number stands for which value of region"):
        brought(house, file, None)
    other = json.loads(card.read_text())
    other["encoder"]["features"][0]["name"] = "elsewhere"
    card.write_text(json.dumps(other))
    with pytest.raises(MillraceError, match="trained on other features"):
        brought(house, file, card)
    file, card = trained_elsewhere(house, tmp_path / "raw.ubj", objective="binary:logitraw")
    with pytest.raises(MillraceError, match="no probabilities"):
        brought(house, file, card)
    with pytest.raises(MillraceError, match="needs a reason"):
        brought(house, file, card, reason=" ")


def test_a_failed_verdict_lets_nothing_in(house, tmp_path):
    file, card = trained_elsewhere(house, tmp_path / "theirs.ubj")
    ledger = house.site.ledger
    verdict = ledger.verdicts(PIPELINE, "raw.visits")[0]
    ledger.record(verdict.model_copy(update={"passed": False}))
    with pytest.raises(MillraceError, match=r"raw.visits of .* has no passed verdict"):
        brought(house, file, card)

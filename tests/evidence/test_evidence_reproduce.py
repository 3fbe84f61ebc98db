"""A version is trained again from its Evidence alone, whatever has changed since, and gives the same bytes."""

from __future__ import annotations

import json
import re

import pytest
from support.project import DAYS, PIPELINE

from millrace.cli.evidence import subject
from millrace.cli.reproduce import Compared, reproduce
from millrace.core.canonical import canonical_json
from millrace.core.errors import MillraceError
from millrace.evidence.subject import evidence_of
from millrace.evidence.verification import verify
from millrace.rules.evidence import Evidence


@pytest.fixture
def evidence(whole) -> Evidence:
    return evidence_of(whole.site.objects, whole.site.ledger.registered(PIPELINE, 1).evidence)


def again(whole, evidence, place) -> tuple[Compared, list[str]]:
    said: list[str] = []
    return reproduce(whole.site.tree, whole.site.settings, evidence, place, said.append), said


def test_evidence_of_a_real_training_is_whole_and_every_part_of_it_verifies(whole, evidence):
    findings = {each.what: each for each in verify(subject(whole.site.settings, whole.site.ledger, PIPELINE, 1))}
    assert {each.holds for each in findings.values()} == {True}, findings
    assert {g.dataset for g in evidence.gates} == {"features", "raw.visits"}
    assert len(evidence.gates) == 28 and all(g.made_of for g in evidence.gates if g.dataset == "features")
    assert [p.partition for p in evidence.parity] == list(DAYS[:14])
    assert evidence.requester == "ann" and evidence.training.learner["kind"] == "xgboost"
    assert evidence.training.lock.startswith("sha256:") and evidence.training.device == "cpu"
    assert {c.job for c in evidence.cost} == {"build_training_set", "train", "evaluate"}
    assert all(c.seconds is not None for c in evidence.cost)
    assert set(evidence.metrics) and {c.name for c in evidence.checks}


def test_the_same_bytes_come_of_it_after_newer_data_and_another_spec(whole, evidence, tmp_path):
    # given: another day is published, and the project's folder says something else now
    whole.features(DAYS[14])
    spec = whole.root / "include" / "pipelines" / PIPELINE / "pipeline.yaml"
    before = spec.read_text()
    spec.write_text(re.sub(r"rounds: \d+", "rounds: 3", before))
    try:
        found, said = again(whole, evidence, tmp_path)
    finally:
        spec.write_text(before)
    assert found == Compared(True, True, (), ()) and found.holds
    assert any("training set: " in line and "the same bytes" in line for line in said)


def test_other_bytes_where_all_is_as_it_was_are_no_reproduction(whole, evidence, tmp_path):
    other = json.loads(canonical_json(evidence))
    other["training"]["seed"] += 1
    found, said = again(whole, Evidence.read(other), tmp_path)
    assert not found.model_equal and found.differing == () and not found.holds
    assert any(line.startswith(("within", "FAR")) for line in said)


def test_elsewhere_metrics_within_the_tolerance_are_one(whole, evidence, tmp_path):
    other = json.loads(canonical_json(evidence))
    other["training"] |= {"seed": evidence.training.seed, "architecture": "riscv64"}
    other["model"]["digest"] = "sha256:" + "0" * 64
    found, _ = again(whole, Evidence.read(other), tmp_path)
    assert found.holds and found.differing == (f"architecture: riscv64, here {__import__('platform').machine()}",)
    other["metrics"] = {name: metric | {"value": metric["value"] * 1.05} for name, metric in other["metrics"].items()}
    found, _ = again(whole, Evidence.read(other), tmp_path / "far")
    assert not found.holds and len(found.far) == len(other["metrics"])


def test_what_it_was_trained_on_must_be_what_it_was(whole, evidence, tmp_path):
    gate = next(g for g in evidence.gates if g.dataset == "features")
    key = whole.site.objects.list(f"snapshots/{PIPELINE}/features/{gate.snapshot.removeprefix('sha256:')}/")
    path = next(o.key for o in key if o.key.endswith("data.parquet"))
    right = whole.site.objects.get(path)
    whole.site.objects.put(path, right[:-1])
    try:
        with pytest.raises(MillraceError, match="do not have its digest"):
            again(whole, evidence, tmp_path)
    finally:
        whole.site.objects.put(path, right)


@pytest.mark.parametrize("changes", [{"training": None, "imported": {"file": "sha256:" + "1" * 64, "format": "ubj",
                                                                   "by": "ann"}}, {"training": None}])  # fmt: skip
def test_what_was_not_trained_here_is_not_trained_again(whole, evidence, tmp_path, changes):
    with pytest.raises(MillraceError, match="cannot be trained again"):
        again(whole, Evidence.read(json.loads(canonical_json(evidence)) | changes), tmp_path)

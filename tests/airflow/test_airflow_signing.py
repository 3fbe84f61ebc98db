"""A promotion is a document, signed with Evidence and model before the version is champion; and what verifies it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException
from cryptography.hazmat.primitives.asymmetric import ec
from sqlalchemy import create_engine, text
from support.keys import keys
from support.ledger import verdict
from support.project import DAYS, PIPELINE
from support.releases import House

from millrace.airflow.runtime.site import Site
from millrace.cli.evidence import subject
from millrace.evidence.finding import Finding
from millrace.evidence.verification import verify
from millrace.ledger import Ledger
from millrace.store import layout


@pytest.fixture
def signing(house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    """Where promotions are signed."""
    private, public = keys(tmp_path)
    monkeypatch.setenv("MILLRACE_SIGNING_KEY", str(private))
    monkeypatch.setenv("MILLRACE_SIGNING_PUBLIC_KEY", str(public))
    return House(house.site.tree.root, monkeypatch)


def found(house: House, version: int = 1, **more: Any) -> dict[str, Finding]:
    """What `millrace evidence` finds, by what it looked at."""
    given = subject(house.site.settings, Ledger.open(house.site.settings.ledger), PIPELINE, version, **more)
    return {each.what: each for each in verify(given)}


def wrong(findings: dict[str, Finding]) -> set[str]:
    return {each.what for each in findings.values() if each.holds is False}


def test_a_promotion_is_signed_and_verified_from_store_ledger_and_key_alone(signing):
    evidence = signing.whole(1)
    signing.release(1)

    champion = signing.ledger.champion(PIPELINE)
    assert champion.signer.startswith("sha256:") and champion.promotion.kind == "promotion"
    document = json.loads(signing.site.objects.get(champion.promotion.uri))
    assert (document["version"], document["evidence"], document["model"], document["before"]) == (
        1, evidence.digest, evidence.model.digest, None,
    )  # fmt: skip
    assert [(a["how"], a["verdict"]) for a in document["release"]["answers"]] == [("automatic", "approve")]
    findings = found(signing)
    assert {each.holds for each in findings.values()} == {True}, findings
    # the next one names whom it follows
    signing.whole(2), signing.release(2)
    document = json.loads(signing.site.objects.get(signing.ledger.champion(PIPELINE).promotion.uri))
    assert (document["before"]["version"], document["generation"]) == (1, 2)
    assert wrong(found(signing, 1)) == wrong(found(signing, 2)) == set()


def test_what_a_person_answered_is_in_what_is_signed(guarded, tmp_path, monkeypatch):
    private, public = keys(tmp_path, curve=ec.SECP384R1)
    monkeypatch.setenv("MILLRACE_SIGNING_KEY", str(private))  # the public half is its own
    house = House(guarded.site.tree.root, monkeypatch)
    (
        house.whole(
            1,
        ),
        house.open(1, user="bob"),
        house.answer(1),
        house.promote(1),
    )
    release = json.loads(house.site.objects.get(house.ledger.champion(PIPELINE).promotion.uri))["release"]
    assert release["requesters"] == ["bob"]
    assert [(a["by"], a["how"], bool(a["at"])) for a in release["answers"]] == [("ann", "person", True)]
    assert found(house)["signature"].holds is False  # which key is right, nobody has said
    assert wrong(found(house, public_key=public)) == set()


def test_without_a_key_nothing_is_signed_and_that_is_said(house):
    house.whole(1), house.release(1)
    findings = found(house)
    assert wrong(findings) == set() and findings["signature"].holds is None
    assert "no signing key was set" in findings["signature"].said
    assert house.ledger.champion(PIPELINE).promotion is not None


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("gone.pem", r"cannot be signed \(FileNotFoundError\)"),
        ("junk.pem", "cannot be signed"),
        ("foreign.pem", "does not hold"),
        ("", "no key to sign with"),
        ("pkcs11:token=x;object=y", "cannot be signed"),
    ],
)
def test_where_a_key_is_set_nothing_unsigned_is_promoted_and_a_mended_key_goes_on(
    signing, tmp_path, monkeypatch, key, words
):
    (tmp_path / "junk.pem").write_text("junk")
    keys(tmp_path, "foreign")
    right = signing.site.settings.signing_key
    given = f"{tmp_path / key}" if key.endswith(".pem") else key
    monkeypatch.setenv("MILLRACE_SIGNING_KEY", given)
    signing = House(signing.site.tree.root, monkeypatch)
    signing.whole(1), signing.open(1)

    with pytest.raises(AirflowFailException, match=words) as caught:
        signing.promote(1)

    assert "PRIVATE" not in str(caught.value)
    assert signing.champion() is None and signing.alias == [] and signing.states() == {1: "approved"}
    monkeypatch.setenv("MILLRACE_SIGNING_KEY", right)
    assert signing.promote(1)["version"] == 1 and wrong(found(signing)) == set()


@pytest.mark.parametrize("what", ["model.ubj", "model.json"])
def test_a_changed_model_is_neither_signed_nor_promoted(signing, what):
    evidence = signing.whole(1)
    signing.open(1)
    signing.site.objects.put(evidence.model.uri + what, b'{"weights": {"file": "model.ubj"}}')

    with pytest.raises(AirflowFailException, match="digest"):
        signing.promote(1)

    assert signing.champion() is None


def test_killed_between_signature_and_promotion_it_ends_the_same(signing, monkeypatch):
    signing.whole(1), signing.open(1)
    promote = Ledger.promote
    monkeypatch.setattr(Ledger, "promote", lambda *a, **k: sys.exit(9))
    with pytest.raises(SystemExit):
        signing.promote(1)
    assert signing.champion() is None
    made = {o.key: signing.site.objects.get(o.key) for o in signing.site.objects.list("promotions/")}
    assert len(made) == 2

    monkeypatch.setattr(Ledger, "promote", promote)
    signing.promote(1)

    assert {o.key: signing.site.objects.get(o.key) for o in signing.site.objects.list("promotions/")} == made
    assert wrong(found(signing)) == set()


def flip(data: bytes) -> bytes:
    return data[:-3] + bytes([data[-3] ^ 1]) + data[-2:]


@pytest.mark.parametrize(
    ("part", "seen"),
    [
        ("weights", {"model", "signature"}),
        ("card", {"model", "signature"}),
        ("evidence", {"Evidence", "signature"}),
        ("promotion", {"promotion", "signature"}),
        ("evaluation", {"evaluation"}),
        ("training set", {"training set"}),
        ("spec", {"spec"}),
        ("signature", {"signature"}),
    ],
)
def test_a_byte_that_was_changed_after_the_promotion_is_found(signing, part, seen):
    evidence = signing.whole(1)
    signing.release(1)
    objects, champion = signing.site.objects, signing.ledger.champion(PIPELINE)
    key = {
        "weights": evidence.model.uri + "model.ubj",
        "card": evidence.model.uri + "model.json",
        "evidence": champion.evidence.uri,
        "promotion": champion.promotion.uri,
        "evaluation": evidence.evaluation.uri,
        "training set": evidence.training_set.uri + "data.parquet",
        "spec": layout.bundle(evidence.spec_digest),
        "signature": layout.model_signature(champion.promotion.uri),
    }[part]
    objects.put(key, flip(objects.get(key)))
    assert wrong(found(signing)) == seen


@pytest.mark.parametrize("dataset", ["features", "raw.visits"])
def test_a_changed_snapshot_behind_the_training_is_found(signing, dataset):
    evidence = signing.whole(1)
    signing.release(1)
    gate = next(g for g in evidence.gates if g.dataset == dataset)
    key = layout.snapshot(PIPELINE, dataset, gate.snapshot) + "data.parquet"
    signing.site.objects.put(key, flip(signing.site.objects.get(key)))
    assert wrong(found(signing)) == {"gates"}


def test_a_removed_signature_a_foreign_key_and_a_foreign_signature_are_found(signing, tmp_path, monkeypatch):
    signing.whole(1), signing.release(1)
    private, foreign = keys(tmp_path, "foreign")
    assert wrong(found(signing, public_key=foreign)) == {"signature"}
    where = layout.model_signature(signing.ledger.champion(PIPELINE).promotion.uri)
    right = signing.site.objects.get(where)
    # signed anew by somebody else, whose key is then called the right one: the ledger says who signed
    from millrace.evidence import signature
    from millrace.evidence.subject import export

    made = export(subject(signing.site.settings, signing.ledger, PIPELINE, 1), tmp_path / "out")
    signature.sign(made / "signed", made / "model.sig", str(private))
    signing.site.objects.put(where, (made / "model.sig").read_bytes())
    assert wrong(found(signing)) == {"signature"}
    assert "the ledger says that sha256:" in found(signing, public_key=foreign)["signature"].said
    signing.site.objects.put(where, right)
    assert wrong(found(signing)) == set()
    signing.site.objects.delete(where)
    assert "the signature is gone" in found(signing)["signature"].said
    monkeypatch.delenv("MILLRACE_SIGNING_PUBLIC_KEY")
    Site.at.cache_clear()
    assert wrong(found(signing)) == {"signature"}


def test_a_verdict_that_changed_since_and_an_edited_row_are_found(signing):
    signing.whole(1), signing.release(1)
    gate = next(v for v in signing.ledger.verdicts(PIPELINE, "raw.visits"))
    signing.ledger.record(verdict(9, pipeline=PIPELINE, dataset="raw.visits", partition=DAYS[0],
                                  snapshot=gate.snapshot, passed=False))  # fmt: skip
    assert wrong(found(signing)) == {"gates"}
    with create_engine(signing.site.settings.ledger).begin() as connection:
        connection.execute(text("UPDATE millrace_entries SET body = replace(body, 'automatic', 'person') "
                                "WHERE kind = 'approval'"))  # fmt: skip
    findings = found(signing)
    assert {"ledger", "promotion"} <= wrong(findings)
    assert "its answers is not the ledger's" in findings["promotion"].said


def test_the_export_is_verified_by_the_tool_of_others_alone(signing, tmp_path, monkeypatch, capsys):
    from millrace.cli import app

    signing.whole(1), signing.release(1)
    out, public = tmp_path / "out", signing.site.settings.signing_public_key
    monkeypatch.chdir(signing.site.tree.root)
    monkeypatch.setattr(sys, "argv", ["millrace", "evidence", PIPELINE, "1", "--json", "--export", str(out)])
    assert _call(app) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["holds"] is True and {f["what"] for f in said["findings"]} >= {"Evidence", "model", "signature"}

    tool = [str(Path(sys.executable).parent / "model_signing"), "verify", "key", str(out / "signed"),
            "--signature", str(out / "model.sig"), "--public_key", public]  # fmt: skip
    assert subprocess.run(tool, capture_output=True).returncode == 0
    (out / "signed" / "evidence.json").write_text("{}")
    assert subprocess.run(tool, capture_output=True).returncode != 0


def _call(app: Any) -> int:
    try:
        app.main()
        return 0
    except SystemExit as end:
        return int(end.code or 0)


def test_the_key_is_in_no_request_and_no_object(signing):
    secret = Path(signing.site.settings.signing_key).read_text().splitlines()[1]
    signing.whole(1), signing.release(1)
    for item in signing.site.objects.list():
        data = signing.site.objects.get(item.key)
        assert secret.encode() not in data and b"key.pem" not in data, item.key
    with signing.ledger._database.read() as connection:
        rows = connection.exec_driver_sql("SELECT body FROM millrace_entries").fetchall()
    assert not any(secret in row[0] or "key.pem" in row[0] for row in rows)

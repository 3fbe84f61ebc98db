"""An anchor is written once, in a folder and in a bucket; in a bucket by another credential than the store's."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest

from millrace.core.errors import Corrupt, LedgerError, StoreError
from millrace.core.settings import Settings
from millrace.store import ObjectStore, open_store
from millrace.store.anchors import Anchors

FORK = multiprocessing.get_context("fork")
HASH = "sha256:" + "a" * 64
OTHER = "sha256:" + "b" * 64


def test_an_anchor_comes_back_as_it_was_put(objects: ObjectStore):
    anchors = Anchors(objects, outside=False)
    assert anchors.read() == {}

    anchors.put("flights", 2, HASH), anchors.put("flights", 10, OTHER), anchors.put("trains", 1, HASH)

    assert anchors.read() == {"flights": {2: HASH, 10: OTHER}, "trains": {1: HASH}}
    assert [each.key for each in objects.list()] == ["flights/10", "flights/2", "trains/1"]


def test_the_same_anchor_again_changes_nothing_and_another_one_is_refused(objects: ObjectStore):
    anchors = Anchors(objects, outside=False)
    anchors.put("flights", 2, HASH)

    anchors.put("flights", 2, HASH)
    with pytest.raises(LedgerError, match="another entry 2 of flights was anchored"):
        anchors.put("flights", 2, OTHER)

    assert anchors.read() == {"flights": {2: HASH}}


def _put(root: str, entry_hash: str, barrier, answers) -> None:
    anchors = Anchors(open_store(root), outside=False)
    barrier.wait(30)
    try:
        anchors.put("flights", 7, entry_hash)
        answers.put(entry_hash)
    except LedgerError:
        answers.put(None)


def test_of_many_that_anchor_different_entries_at_once_one_wins(root: str):
    barrier, answers = FORK.Barrier(8), FORK.SimpleQueue()
    putters = [FORK.Process(target=_put, args=(root, f"sha256:{n:064x}", barrier, answers)) for n in range(8)]
    for each in putters:
        each.start()
    said = [answers.get() for _ in putters]
    for each in putters:
        each.join(30)

    (won,) = [each for each in said if each]
    assert Anchors(open_store(root), outside=False).read() == {"flights": {7: won}}


@pytest.mark.parametrize("body", [b"", b"[]", b'{"pipeline": "flights"}', b"\xff"])
def test_an_object_that_is_no_anchor_is_told(objects: ObjectStore, body: bytes):
    objects.put("flights/1", body)

    with pytest.raises(Corrupt, match="not an anchor"):
        Anchors(objects, outside=False).read()


def test_an_anchor_that_was_copied_to_another_number_is_told(objects: ObjectStore):
    anchors = Anchors(objects, outside=False)
    anchors.put("flights", 1, HASH)
    objects.put("flights/2", objects.get("flights/1"))

    with pytest.raises(Corrupt, match="another entry"):
        anchors.read()


def test_they_lie_in_the_store_unless_the_settings_say_otherwise(tmp_path: Path):
    def at(**variables: str) -> Anchors:
        return Anchors.of(Settings.load(tmp_path, {f"MILLRACE_{name.upper()}": it for name, it in variables.items()}))

    assert (at().objects.root, at().outside) == (str(tmp_path / ".millrace" / "store" / "anchors"), False)
    assert (at(store="s3://b/x/").objects.root, at(store="s3://b/x/").outside) == ("s3://b/x/anchors", False)
    assert not at(anchors="s3://kept").outside, "the credentials are the store's"
    assert not at(anchors=str(tmp_path), anchors_profile="notary").outside, "a folder has no credentials"
    assert at(anchors="s3://kept", anchors_profile="notary").outside


def test_a_bucket_is_reached_with_the_profiles_keys_whatever_the_variables_say(
    bucket, s3_endpoint, tmp_path, monkeypatch
):
    # given: a writer whose own keys the server does not know, and a file with those of the anchors
    from conftest import KEY, SECRET

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "writer")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "nothing-worth")
    credentials = tmp_path / "credentials"
    credentials.write_text(f"[notary]\naws_access_key_id = {KEY}\naws_secret_access_key = {SECRET}\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(credentials))
    settings = Settings.load(
        tmp_path, {"MILLRACE_ANCHORS": f"s3://{bucket}/kept", "MILLRACE_ANCHORS_PROFILE": "notary"}
    )

    Anchors.of(settings).put("flights", 1, HASH)

    assert Anchors.of(settings).read() == {"flights": {1: HASH}}
    assert open_store(f"s3://{bucket}/kept").exists("flights/1") is False


def test_a_profile_that_nobody_wrote_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))

    with pytest.raises(StoreError, match="no such profile .*given: 'notary'"):
        Anchors(open_store("s3://kept", "notary"), outside=True).read()

"""Anchors in a locked bucket, under credentials of their own, hold against whoever has all others: on a real server
with accounts, a policy and object lock."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine
from support.ledger import promoted, verdict
from support.versity import versitygw

from millrace.core.errors import LedgerError, StoreError
from millrace.core.settings import Settings
from millrace.ledger import Ledger
from millrace.ledger.chain import entry_hash
from millrace.ledger.schema import ENTRIES
from millrace.store import open_store
from millrace.store.anchors import Anchors

ROOT, WRITER, NOTARY = "root-access", "writer", "notary"
BUCKET = "kept"
HASH, OTHER = "sha256:" + "a" * 64, "sha256:" + "b" * 64


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An S3 server with the accounts of a writer and of a notary, who may add to the locked bucket and read it."""
    binary = versitygw()
    if binary is None:
        pytest.skip("no S3 server with accounts here (VersityGW, which Go builds)")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    accounts, data, url = tmp_path_factory.mktemp("iam"), tmp_path_factory.mktemp("s3"), f"http://127.0.0.1:{port}"
    process = subprocess.Popen(
        [binary, "--port", f"127.0.0.1:{port}", "--iam-dir", str(accounts), "posix", str(data)],
        env={**os.environ, "ROOT_ACCESS_KEY": ROOT, "ROOT_SECRET_KEY": secret(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for account in (WRITER, NOTARY):
            create(binary, url, account)
        made(url)
        yield url
    finally:
        process.terminate()
        process.wait(10)


def secret(account: str) -> str:
    return f"{account}-secret-key"


def create(binary: str, url: str, account: str) -> None:
    command = [binary, "admin", "--allow-insecure", "-a", ROOT, "-s", secret(ROOT), "-er", url, "create-user",
               "-a", account, "-s", secret(account), "-r", "user"]  # fmt: skip
    until = time.monotonic() + 30
    while subprocess.run(command, capture_output=True).returncode:
        assert time.monotonic() < until, "the server made no account"
        time.sleep(0.2)


def made(url: str) -> None:
    client = connected(url, ROOT)
    client.create_bucket(Bucket=BUCKET, ObjectLockEnabledForBucket=True)
    rule = {"DefaultRetention": {"Mode": "COMPLIANCE", "Days": 365}}
    client.put_object_lock_configuration(
        Bucket=BUCKET, ObjectLockConfiguration={"ObjectLockEnabled": "Enabled", "Rule": rule}
    )
    who, objects, bucket = {"AWS": [NOTARY]}, f"arn:aws:s3:::{BUCKET}/*", f"arn:aws:s3:::{BUCKET}"
    may = [
        {"Effect": "Allow", "Principal": who, "Action": ["s3:PutObject", "s3:GetObject"], "Resource": [objects]},
        {"Effect": "Allow", "Principal": who, "Action": ["s3:ListBucket"], "Resource": [bucket]},
    ]
    client.put_bucket_policy(Bucket=BUCKET, Policy=json.dumps({"Version": "2012-10-17", "Statement": may}))


def connected(url: str, account: str) -> Any:
    import boto3

    return boto3.session.Session().client(
        "s3", endpoint_url=url, aws_access_key_id=account, aws_secret_access_key=secret(account),
        region_name="us-east-1",
    )  # fmt: skip


@pytest.fixture
def settings(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A process with the writer's keys in its variables and the notary's in a file; anchors under an own prefix."""
    file = tmp_path / "credentials"
    file.write_text(f"[notary]\naws_access_key_id = {NOTARY}\naws_secret_access_key = {secret(NOTARY)}\n")
    for name, value in {
        "AWS_ENDPOINT_URL": server,
        "AWS_ACCESS_KEY_ID": WRITER,
        "AWS_SECRET_ACCESS_KEY": secret(WRITER),
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_SHARED_CREDENTIALS_FILE": str(file),
    }.items():
        monkeypatch.setenv(name, value)
    place = f"s3://{BUCKET}/{tmp_path.name}"
    return Settings.load(tmp_path, {"MILLRACE_ANCHORS": place, "MILLRACE_ANCHORS_PROFILE": "notary"})


def test_an_anchor_can_be_put_again_but_not_changed_by_the_notary_the_writer_or_root(server, settings):
    anchors = Anchors.of(settings)
    anchors.put("flights", 1, HASH)

    anchors.put("flights", 1, HASH)
    with pytest.raises(LedgerError, match="another entry 1 of flights was anchored"):
        anchors.put("flights", 1, OTHER)
    for act in (lambda: anchors.objects.put("flights/1", b"x"), lambda: anchors.objects.delete("flights/1")):
        with pytest.raises(StoreError, match="AccessDenied"):
            act()
    key = anchors.objects.url("flights/1").removeprefix(f"s3://{BUCKET}/")
    for account in (WRITER, ROOT):
        client = connected(server, account)
        with pytest.raises(client.exceptions.ClientError, match="AccessDenied"):
            client.put_object(Bucket=BUCKET, Key=key, Body=b"x")
        with pytest.raises(client.exceptions.ClientError, match="AccessDenied"):
            client.delete_object(Bucket=BUCKET, Key=key)

    assert anchors.outside and anchors.read() == {"flights": {1: HASH}}


def test_the_writers_keys_neither_read_nor_add_an_anchor(settings):
    writers = Anchors(open_store(settings.anchors), outside=False)

    with pytest.raises(StoreError, match="AccessDenied"):
        writers.put("flights", 1, HASH)
    with pytest.raises(StoreError, match="AccessDenied"):
        writers.read()


def cut(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return rows[:-4]


def emptied(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return []


def forged(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A failed gate becomes a passed one, and all that follows is hashed again."""
    rows[0]["body"] = rows[0]["body"].replace('"passed":false', '"passed":true')
    for index, row in enumerate(rows):
        row["previous"] = rows[index - 1]["hash"] if index else row["previous"]
        row["hash"] = entry_hash(row)
    return rows


@pytest.mark.parametrize(
    ("act", "found"),
    [(cut, "entry 6 was anchored"), (emptied, "entry 6 was anchored"), (forged, "is not the one that was anchored")],
)
def test_whoever_holds_the_database_cannot_undo_a_promotion_unseen(settings, act: Callable[..., Any], found: str):
    # given: a promotion, anchored as the release task does it
    settings.home.mkdir(parents=True)
    ledger, anchors = Ledger.open(settings.ledger), Anchors.of(settings)
    for number in (1, 2):
        ledger.record(verdict(number, passed=False))
    promoted(ledger, 1, anchor=anchors.put)
    assert [entry.number for entry in ledger.entries(kind="promoted")] == [5]
    ledger.record(verdict(3))
    anchors.put("flights", 6, ledger.entries()[5].hash)
    assert ledger.verify(anchors.read()) == 8

    # when
    rows: list[dict[str, Any]] = []
    ledger.export(lambda row: rows.append(dict(row)))
    engine = create_engine(settings.ledger)
    with engine.begin() as connection:
        connection.execute(ENTRIES.delete())
        if after := act(rows):
            connection.execute(ENTRIES.insert(), after)
    engine.dispose()

    # then
    with pytest.raises(LedgerError, match=found):
        ledger.verify(anchors.read())

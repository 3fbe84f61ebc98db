"""A delivered file arrives whole, once, and under the name that its partition has."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from millrace.core.errors import DataError, SpecError, Unavailable
from millrace.sources.files import FilesSourceEngine
from millrace.sources.protocol import SourceMissing, engine_of, fill
from millrace.sources.s3 import S3SourceEngine
from millrace.spec import Partitioning
from millrace.spec.source import FilesSource

NEW_YORK = Partitioning("hour", "America/New_York")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "copy"
    made.mkdir()
    return made


@pytest.mark.parametrize(
    ("partitioning", "key", "filled"),
    [
        (NEW_YORK, "2013-03-09T05", "in/2013/03/09/05.csv"),
        (Partitioning("day", "Asia/Tokyo"), "2024-12-31", "in/2024/12/31/00.csv"),
        (Partitioning("week"), "2024-01-01", "in/2024/01/01/00.csv"),
        (Partitioning("month", "America/New_York"), "2013-01", "in/2013/01/01/00.csv"),
    ],
)
def test_a_location_is_filled_with_the_local_start(partitioning: Partitioning, key: str, filled: str) -> None:
    assert fill("in/{year}/{month}/{day}/{hour}.csv", partitioning, key) == filled


def test_a_static_location_is_taken_as_it_is() -> None:
    assert fill("in/planes.csv", NEW_YORK, None) == "in/planes.csv"


def test_a_key_of_another_grain_is_refused() -> None:
    with pytest.raises(SpecError, match="'2013-03' is not a hour partition"):
        fill("{year}.csv", NEW_YORK, "2013-03")


def test_the_copy_stays_when_the_file_is_replaced(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "a.csv").write_text("old")
    copy = FilesSourceEngine().fetch(str(tmp_path / "a.csv"), folder)
    (tmp_path / "a.csv").write_text("new")
    assert (copy.read_text(), copy.name) == ("old", "a.csv")


def test_a_file_that_is_still_being_written_is_tried_again(tmp_path: Path, folder: Path) -> None:
    # Given a sender that appends all the time
    path, stop = tmp_path / "a.csv", threading.Event()
    path.write_bytes(b"x" * 30_000_000)

    def append() -> None:
        with path.open("ab", buffering=0) as handle:
            while not stop.is_set():
                handle.write(b"x" * 1000)
                time.sleep(0.0005)

    sender = threading.Thread(target=append)
    sender.start()
    try:
        time.sleep(0.05)
        with pytest.raises(Unavailable, match="still being written") as caught:
            FilesSourceEngine().fetch(str(path), folder)
    finally:
        stop.set()
        sender.join()
    assert caught.value.retry == "same"
    # When it is done, the file is taken
    assert FilesSourceEngine().fetch(str(path), folder).stat().st_size == path.stat().st_size


def test_no_file_may_come_later_but_a_folder_is_a_mistake(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "a.csv").mkdir()
    for missing in ("b.csv", "no/b.csv"):
        with pytest.raises(SourceMissing, match="no such file") as caught:
            FilesSourceEngine().fetch(str(tmp_path / missing), folder)
        assert caught.value.retry == "wait"
    with pytest.raises(DataError, match="a folder stands") as mistake:
        FilesSourceEngine().fetch(str(tmp_path / "a.csv"), folder)
    assert mistake.value.retry == "never"


def test_an_object_comes_from_a_bucket(bucket: str, folder: Path) -> None:
    import boto3

    data = b"0123456789" * 2_000_000
    boto3.client("s3").put_object(Bucket=bucket, Key="in/2013/01.csv", Body=data)
    copy = S3SourceEngine().fetch(f"s3://{bucket}/in/2013/01.csv", folder)
    assert copy.name == "01.csv" and copy.parent == folder
    assert copy.read_bytes() == data


@pytest.mark.parametrize("key", ["01.csv", "in/2013/02.csv"])
def test_no_object_may_come_later(bucket: str, folder: Path, key: str) -> None:
    with pytest.raises(SourceMissing, match=f"no such object .*{key}") as caught:
        S3SourceEngine().fetch(f"s3://{bucket}/{key}", folder)
    assert caught.value.retry == "wait"
    assert not list(folder.iterdir())


def test_a_server_that_is_away_is_not_a_missing_object(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with pytest.raises(Unavailable) as caught:
        S3SourceEngine().fetch("s3://bucket/a.csv", folder)
    assert caught.value.retry == "same"


@pytest.mark.parametrize("engine", ["millrace.nowhere:Engine", "millrace.sources.files:Nothing"])
def test_an_engine_that_cannot_be_imported_is_named(engine: str) -> None:
    class Odd(FilesSource):
        pass

    Odd.engine = engine
    with pytest.raises(SpecError, match=f"source kind 'files' cannot be imported .*{engine}"):
        engine_of(Odd(location="{year}.csv", gate="g.yaml", columns=("a",)))

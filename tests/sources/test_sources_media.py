"""Deliveries of images and texts: a row per file with what is measured of it; what does not fit together is refused."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pydantic import ValidationError

from millrace.core.canonical import digest
from millrace.core.errors import DataError
from millrace.sources.files import FilesSourceEngine
from millrace.sources.formats import media as subject
from millrace.sources.formats.columns import wanted
from millrace.sources.formats.media import pack
from millrace.sources.formats.tabular import header, read
from millrace.spec.media import MEASURED
from millrace.spec.source import FilesSource

INDEX = "file,time,kind\na.png,2024-01-01T00:00:00Z,x\nb/b.png,2024-01-02T00:00:00Z,y\n"
BASE = {"kind": "files", "location": "{year}-{month}.zip", "gate": "s.yaml", "columns": ["file", "time", "kind"],
        "types": {"time": "timestamp"}}  # fmt: skip


def image(value: int = 200, size: tuple[int, int] = (6, 4), mode: str = "L", format: str = "PNG") -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.full((size[1], size[0]), value, np.uint8)).convert(mode).save(out, format)
    return out.getvalue()


def delivery(path: Path, files: Mapping[str, bytes | str]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def images(path: Path, **changes: bytes | str | None) -> Path:
    files = {"index.csv": INDEX, "a.png": image(10), "b/b.png": image(20)} | {
        name.replace("__", "/").replace("_", "."): data for name, data in changes.items()
    }
    return delivery(path, {name: data for name, data in files.items() if data is not None})


def landed(path: Path, format: str = "images", public: bool = True) -> pa.Table:
    source = FilesSource.model_validate({**BASE, "format": format})
    return read(path, path.name, format, source.columns, source.types, lambda column: public)


def test_each_image_is_a_row_with_its_bytes_and_what_is_measured(tmp_path: Path) -> None:
    grey = np.zeros((4, 6), np.uint8)
    grey[:, 3:] = 255
    out = io.BytesIO()
    Image.fromarray(grey).save(out, "PNG")
    path = images(tmp_path / "in.zip", a_png=out.getvalue(), b__b_png=image(51, (5, 7), "RGB", "JPEG"))
    first, second = landed(path).to_pylist()
    assert (first["file"], first["kind"], second["file"]) == ("a.png", "x", "b/b.png")
    assert first["content"] == out.getvalue() and first["digest"] == digest(out.getvalue())
    measured = {k: first[k] for k in ("size", "media_type", "decoded", "width", "height", "channels", "brightness",
                                      "contrast")}  # fmt: skip
    assert measured == {"size": len(out.getvalue()), "media_type": "image/png", "decoded": True, "width": 6,
                        "height": 4, "channels": 1, "brightness": 0.5, "contrast": 0.5}  # fmt: skip
    assert (second["media_type"], second["width"], second["height"], second["channels"]) == ("image/jpeg", 5, 7, 3)
    assert second["brightness"] == pytest.approx(0.2, abs=0.01) and second["contrast"] == 0
    assert header(path, path.name, "images") == ["file", "time", "kind"]
    assert landed(path).schema == pa.schema(
        wanted(("file", "time", "kind", *MEASURED["images"]), {"time": "timestamp", **MEASURED["images"]}).items()
    )


def huge() -> bytes:
    """A PNG of 60 bytes that claims to have 10^10 pixels."""
    head = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 0, 0, 0, 0)
    chunk = b"".join(struct.pack(">I", len(d)) + t + d + struct.pack(">I", zlib.crc32(t + d))
                     for t, d in ((b"IHDR", head), (b"IDAT", zlib.compress(b"\0")), (b"IEND", b"")))  # fmt: skip
    return b"\x89PNG\r\n\x1a\n" + chunk


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (image()[:40], "image/png"),
        (image()[:-20] + b"\0" * 20, "image/png"),
        (huge(), "image/png"),
        (b"GIF89a" + b"\0" * 20, "image/gif"),
        (b"not a picture", "text/plain"),
        (b"\xff\x00\xfe\x80", "application/octet-stream"),
        (b"", "text/plain"),
    ],
    ids=["cut", "overwritten", "huge", "gif", "text", "noise", "empty"],
)
def test_what_cannot_be_decoded_is_a_row_for_the_gate(tmp_path: Path, data: bytes, kind: str) -> None:
    row, other = landed(images(tmp_path / "in.zip", a_png=data)).to_pylist()
    assert (row["decoded"], row["media_type"], row["content"]) == (False, kind, data)
    assert [row[c] for c in ("width", "height", "channels", "brightness", "contrast")] == [None] * 5
    assert other["decoded"] is True


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("Dänemark är ett land\r\n".encode(), {"encoding": "utf-8", "characters": 22, "words": 4, "distinct_words": 4}),
        ("\ufeffÅ å".encode(), {"encoding": "utf-8-sig", "text": "Å å", "words": 2, "distinct_words": 1}),
        ("Dänemark".encode("latin-1"), {"encoding": "unknown", "text": None, "characters": None, "letters": None}),
        ("Dänemark".encode("utf-16"), {"encoding": "utf-16", "text": None, "media_type": "text/plain"}),
        (b"12 ab", {"letters": 0.4, "controls": 0}),
        (b"a\x00b\x07\tc\n", {"controls": 2}),
        ("a\ufffdb".encode(), {"controls": 1}),
        (b"", {"encoding": "utf-8", "text": "", "letters": 0.0, "words": 0}),
    ],
    ids=["utf-8", "mark", "latin-1", "utf-16", "digits", "controls", "replaced", "empty"],
)
def test_texts_are_measured(tmp_path: Path, data: bytes, expected: dict[str, object]) -> None:
    row = landed(images(tmp_path / "in.zip", a_png=data), "texts").to_pylist()[0]
    assert {name: row[name] for name in expected} == expected
    assert row["digest"] == digest(data)


def flipped(path: Path) -> Path:
    """One byte of a stored file changed on the way."""
    data = bytearray(path.read_bytes())
    at = data.index(image(20))
    data[at + 30] ^= 1
    path.write_bytes(bytes(data))
    return path


@pytest.mark.parametrize(
    ("index", "more", "words"),
    [
        (None, {}, ["in.zip: the delivery has no index.csv"]),
        ("file,time,kind\n", {}, ["2 delivered files are not in the index"]),
        (INDEX.replace("kind", "king", 1), {}, ["in.zip/index.csv:1", "no column 'kind'", "did you mean 'king'"]),
        (INDEX.replace("a.png", "c.png"), {}, ["in.zip/index.csv:2", "was not delivered", "'c.png'"]),
        (INDEX.replace("b/b.png", "a.png"), {}, ["in.zip/index.csv:3", "names a file twice", "'a.png'"]),
        (INDEX.replace("a.png", ""), {}, ["in.zip/index.csv:2", "has no 'file'"]),
        (INDEX, {"extra_png": image()}, ["1 delivered files are not in the index", "'extra.png'"]),
        (INDEX.replace("2024-01-02T", "2024-13-02T"), {}, ["in.zip/index.csv:3", "not of type timestamp"]),
        (INDEX, {"..__up_png": image()}, ["lies outside"]),
    ],
    ids=["none", "empty", "header", "absent", "twice", "unnamed", "unlisted", "time", "outside"],
)
def test_an_index_that_does_not_fit_the_files_is_refused(
    tmp_path: Path, index: str | None, more: dict[str, bytes], words: list[str]
) -> None:
    path = images(tmp_path / "in.zip", index_csv=index)
    with zipfile.ZipFile(path, "a") as archive:
        for name, data in more.items():
            archive.writestr(name.replace("..__up_png", "../up.png").replace("_png", ".png"), data)
    with pytest.raises(DataError) as caught:
        landed(path)
    for word in words:
        assert word in str(caught.value)


def test_names_of_files_that_are_not_public_stay_out_of_messages(tmp_path: Path) -> None:
    path = images(tmp_path / "in.zip", index_csv=INDEX.replace("a.png", "anna.png"))
    with pytest.raises(DataError, match="index.csv:2") as caught:
        landed(path, public=False)
    assert "anna" not in str(caught.value)


def test_a_broken_zip_is_named_as_such(tmp_path: Path) -> None:
    path = images(tmp_path / "in.zip")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="in.zip: the delivery is not a zip, or not whole"):
        landed(path)
    path.write_bytes(whole)
    with pytest.raises(DataError, match=r"index.csv:3: the file is damaged"):
        landed(flipped(path))


def test_sizes_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = images(tmp_path / "in.zip")
    for name, value, words in (
        ("MOST_FILE", 10, "index.csv:2: the file has .* bytes, more than 10"),
        ("MOST_DELIVERY", 100, "too many bytes"),
        ("MOST_FILES", 1, "too many files"),
    ):
        with monkeypatch.context() as patched:
            patched.setattr(subject, name, value)
            with pytest.raises(DataError, match=words):
                landed(path)


def test_a_folder_is_landed_as_the_zip_it_could_have_come_in(tmp_path: Path) -> None:
    # Given the same files in a folder, written in another order
    (tmp_path / "in" / "b").mkdir(parents=True)
    for name, data in (("b/b.png", image(20)), ("a.png", image(10)), ("index.csv", INDEX.encode())):
        (tmp_path / "in" / name).write_bytes(data)
    for place in ("one", "two"):
        (tmp_path / place).mkdir()
    one, two = (FilesSourceEngine().fetch(str(tmp_path / "in"), tmp_path / place) for place in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()
    assert landed(one).equals(landed(images(tmp_path / "in.zip")))
    # A folder of anything else is none
    (tmp_path / "in" / "index.csv").unlink()
    with pytest.raises(DataError, match="a folder stands where the file should be"):
        FilesSourceEngine().fetch(str(tmp_path / "in"), tmp_path / "one")


def test_packing_forgets_when_files_were_written(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x").write_text("same")
        pack(tmp_path / name, tmp_path / f"{name}.zip")
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


def test_the_measured_columns_come_by_themselves_and_once() -> None:
    source = FilesSource.model_validate({**BASE, "format": "images"})
    assert source.columns == ("file", "time", "kind", *MEASURED["images"])
    assert source.types == {**MEASURED["images"], "time": "timestamp"}
    assert source.delivered == ("file", "time", "kind")
    assert FilesSource.model_validate(source.model_dump(mode="json")) == source


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"format": "images", "columns": ["time", "kind"]}, "names each file in a column 'file'"),
        ({"format": "images", "types": {"width": "string"}}, "is measured of images"),
        ({"format": "texts", "compression": "zip"}, "come in a zip as they are"),
        ({"format": "csv", "types": {"kind": "binary"}}, "no delivered column is binary"),
        ({"format": "texts", "types": {"content": "binary"}}, "no such column"),
    ],
)
def test_a_source_that_cannot_be_so_is_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        FilesSource.model_validate({**BASE, "types": {}, **changes})

"""A body costs no more than it may, and what it says has one meaning."""

from __future__ import annotations

import asyncio
import gzip
import json
import math
import time
import zlib
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from millrace.serving import body
from millrace.serving.refused import Refused

PACKED = {b"content-encoding": b"gzip"}


class Sender:
    """Sends pieces as ASGI has them, and counts those that were asked for."""

    def __init__(self, *pieces: bytes | float, leaves: bool = False) -> None:
        self.pieces, self.asked, self.leaves = list(pieces), 0, leaves

    async def receive(self) -> dict[str, Any]:
        self.asked += 1
        if self.leaves and not self.pieces:
            return {"type": "http.disconnect"}
        piece = self.pieces.pop(0)
        if isinstance(piece, float):
            await asyncio.sleep(piece)
            piece = b""
        return {"type": "http.request", "body": piece, "more_body": bool(self.pieces) or self.leaves}


def read(sender: Sender, headers: dict[bytes, bytes] | None = None, limit: int = 100, seconds: float = 5) -> bytes:
    return asyncio.run(body.read(sender.receive, headers or {}, limit, seconds))


def refused(sender: Sender, headers: dict[bytes, bytes] | None = None, **more: Any) -> Refused:
    with pytest.raises(Refused) as err:
        read(sender, headers, **more)
    return err.value


def test_pieces_are_one_body():
    assert read(Sender(b"ab", b"", b"cd")) == b"abcd"
    assert read(Sender(b"")) == b""
    assert read(Sender(b"x" * 100), {b"content-length": b"100"}) == b"x" * 100


def test_one_that_says_it_is_too_large_is_not_read():
    sender = Sender(b"x" * 101)
    err = refused(sender, {b"content-length": b"101"})
    assert (err.status, sender.asked) == (413, 0) and (b"connection", b"close") in err.headers
    assert "allowed: up to 100 bytes" in str(err)
    assert refused(Sender(b""), {b"content-length": b"9" * 5000}).status == 413


def test_one_that_does_not_say_so_is_read_as_far_as_the_limit():
    sender = Sender(*[b"x" * 40] * 10)
    assert refused(sender, {b"content-length": b"7"}).status == 413
    assert sender.asked == 3


@pytest.mark.parametrize("length", [b"-1", b"1e3", b"", b"ten", b"\xb2"])
def test_a_length_that_is_no_number(length):
    assert refused(Sender(b""), {b"content-length": length}).status == 400


def test_one_that_trickles_ends():
    began = time.monotonic()
    assert refused(Sender(b"x", *[0.05] * 200, b"x"), seconds=0.2).status == 408
    assert time.monotonic() - began < 5


def test_a_sender_that_leaves():
    assert "left" in str(refused(Sender(b"x", leaves=True)))


def test_gzip_is_unpacked():
    data = json.dumps(list(range(20))).encode()
    packed = gzip.compress(data)
    assert read(Sender(packed[:7], packed[7:]), PACKED) == data
    assert read(Sender(packed), {b"content-encoding": b" GZip "}) == data
    large = bytes(range(256)) * 4000
    assert read(Sender(gzip.compress(large)), PACKED, limit=len(large)) == large
    assert read(Sender(gzip.compress(b"")), PACKED) == b""


def test_a_bomb_is_not_unpacked(monkeypatch):
    bomb = gzip.compress(bytes(200 << 20))
    unpacked = []

    class Counted:
        def __init__(self, *args: Any) -> None:
            self.inner = zlib.decompressobj(*args)

        def decompress(self, *args: Any) -> bytes:
            unpacked.append(len(piece := self.inner.decompress(*args)))
            return piece

        def __getattr__(self, name: str) -> Any:
            return getattr(self.inner, name)

    monkeypatch.setattr(body, "zlib", type("Zlib", (), {"decompressobj": Counted, "error": zlib.error}))
    assert refused(Sender(bomb), PACKED, limit=1 << 20).status == 413
    assert sum(unpacked) == (1 << 20) + 1


@pytest.mark.parametrize(
    "data",
    [b"", b"{}", gzip.compress(b"{}")[:-1], gzip.compress(b"{}")[:5], gzip.compress(b"{}") + b"x",
     gzip.compress(b"{}") * 2, gzip.compress(b"{}")[:-8] + bytes(8), zlib.compress(b"{}")],
    ids=["empty", "plain", "cut", "cut in its head", "more after it", "twice", "checksum", "zlib"],
)  # fmt: skip
def test_what_is_not_one_whole_gzip(data):
    assert refused(Sender(data), PACKED).status == 400


@pytest.mark.parametrize("encoding", [b"br", b"deflate", b"gzip, gzip", b"zstd"])
def test_other_encodings(encoding):
    err = refused(Sender(b"{}"), {b"content-encoding": encoding})
    assert err.status == 415 and (b"accept-encoding", b"gzip, identity") in err.headers


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=("Cs",))),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=("Cs",))), inner),
    max_leaves=20,
)  # fmt: skip


@given(json_values, st.booleans())
@example({":": "a:b", "x": [":", {"\\": "12:30:00"}]}, True)
def test_what_was_written_is_read(value, ascii_only):
    assert body.parse(json.dumps(value, ensure_ascii=ascii_only).encode()) == value


@given(st.binary(max_size=60) | st.text('{}[]",:0123456789.eE+-\\u tfn', max_size=60).map(str.encode))
def test_whatever_comes_is_read_or_refused(data):
    """What is read is what the standard library reads, but for a name that stands twice, NaN and infinities."""
    try:
        found = body.parse(data)
    except Refused as err:
        assert err.status == 400 and "\n" not in str(err)
    else:
        if b"NaN" not in data:
            assert found == json.loads(data)


pairs = st.lists(st.tuples(st.text('ab:"\\ä'), st.text('ab:"\\ä,{}') | st.integers()), max_size=6)


@given(pairs, st.booleans(), st.booleans())
@example([("a", ""), ("a", "")], False, False)
@example([("a", 1), ("a", "b")], True, True)
def test_a_name_that_stands_twice_is_always_found(given_pairs, ascii_only, escaped):
    texts = [json.dumps(part, ensure_ascii=ascii_only) for pair in given_pairs for part in pair]
    if escaped:  # a colon that is no byte of the body
        texts = [text.replace(":", "\\u003a") for text in texts]
    members = ",".join(f"{name}:{value}" for name, value in zip(texts[::2], texts[1::2], strict=True))
    data = f"[{{{members}}}]".encode()
    names = [name for name, _ in given_pairs]
    if len(set(names)) == len(names):
        assert body.parse(data) == [dict(given_pairs)]
    else:
        with pytest.raises(Refused, match="stands twice"):
            body.parse(data)


def test_an_escape_hides_no_second_name():
    """Colons of the bytes and of the texts balance: one name more, one colon that is written as an escape."""
    for data in (b'{"a":1,"a":2,"b":"\\u003a"}', b'{"a":1,"a":"\\u003a"}', b'{"a":{"x":":"},"a":1}'):
        with pytest.raises(Refused, match=r"stands twice in an object \(given: 'a'\)"):
            body.parse(data)


def test_nan_is_null_wherever_it_stands():
    assert body.parse(b'{"a":NaN,"b":[NaN,{"c":NaN}],"d":1.5}') == {"a": None, "b": [None, {"c": None}], "d": 1.5}
    assert body.parse(b"NaN") is None


@pytest.mark.parametrize("number", [b"Infinity", b"-Infinity", b"1e999", b"-1e999"])
def test_an_infinity_is_named_by_its_place(number):
    with pytest.raises(Refused, match=r"rows\.1\.delay: is infinite; allowed: a finite number or null"):
        body.parse(b'{"rows":[{"delay":1},{"delay":' + number + b"}]}")


def test_depth_has_a_limit():
    for opening, closing in ((b"[", b"]"), (b'{"a":', b"}")):
        value = body.parse(opening * 63 + b"[1]" + closing * 63)
        assert value
        for depth in (65, 150, 10_000, 200_000):
            with pytest.raises(Refused, match="allowed: up to 64 levels"):
                body.parse(opening * depth + b"1" + closing * depth)


def test_whole_numbers_have_a_limit():
    assert body.parse(b"[" + b"9" * 400 + b"]") == [10**400 - 1]
    for digits in (401, 4000, 100_000):
        for sign in (b"", b"-"):
            with pytest.raises(Refused, match="too long.*allowed: up to 400 digits"):
                body.parse(b"[" + sign + b"9" * digits + b"]")


@pytest.mark.parametrize(
    "data",
    [b"", b" ", b"{", b'{"a":1,}', b"{} {}", b"'a'", b'"\xff"',
     b'"\xed\xa0\x80"', b'"\\ud800"', b"01", b"+1", b".5", b"nan",
     b"\xef\xbb\xbf{}", '{"a":1}'.encode("utf-16"), b"{'a':1}", b"[1 2]", b'"a\nb"'],
)  # fmt: skip
def test_what_is_no_json(data):
    with pytest.raises(Refused, match="not JSON in UTF-8"):
        body.parse(data)


def test_a_place_ends_no_line():
    with pytest.raises(Refused) as err:
        body.parse(b'{"a\\nb: forged":1e999}')
    assert "\n" not in str(err.value) and err.value.where == "a?b: forged"


def test_doubles_are_what_python_reads():
    texts = ["0.1", "1e-320", "1.7976931348623157e308", "9007199254740993.0", "2.2250738585072011e-308"]
    found = body.parse(f"[{','.join(texts)}]".encode())
    assert found == [float(text) for text in texts] and all(math.isfinite(each) for each in found)

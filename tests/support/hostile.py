"""Sixty hostile models: files that would execute something, lead out of their folder, or mislead native code.

Each is a folder as a store would hold it. Where `honest` its digests are right, as they are where whoever wrote the
files wrote the digests, too: what is inside has to be refused then.
"""

from __future__ import annotations

import io
import json
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from onnx import helper

from support import graphs

CANARY = Path("/tmp/millrace-canary")
"""Made by whatever executes one of these files."""


class Bomb:
    def __reduce__(self) -> Any:
        return (Path.touch, (CANARY,))


@dataclass(frozen=True)
class Hostile:
    """`weights` under the name `file`; `beside` other files of the folder; `card` changes what model.json says."""

    name: str
    weights: bytes
    file: str = "weights.ubj"
    card: dict[str, Any] = field(default_factory=dict)
    beside: dict[str, bytes] = field(default_factory=dict)
    honest: bool = True
    text: Callable[[bytes], bytes] = lambda card: card
    """Changes the bytes of model.json; its digest, where honest, follows."""


def corpus(ubj: bytes, tensors: bytes) -> list[Hostile]:
    """The sixty, made of one good model of trees and one good set of tensors."""
    return [
        *_executing(ubj),
        *_archives(),
        *_beside(ubj),
        *_cards(ubj),
        *_changed(ubj, tensors),
        *_misleading_trees(ubj),
        *_misleading_tensors(tensors),
        *_graphs(),
    ]


def _executing(ubj: bytes) -> Iterator[Hostile]:
    for protocol in (0, 2, 4, 5):
        data = pickle.dumps(Bomb(), protocol)
        yield Hostile(f"pickle {protocol} as ubj", data)
        yield Hostile(f"pickle {protocol} as safetensors", data, "weights.safetensors")
    objects = io.BytesIO()
    np.save(objects, np.array([Bomb()], dtype=object), allow_pickle=True)
    yield Hostile("numpy objects", objects.getvalue(), "weights.safetensors")
    yield Hostile("python", f"open({str(CANARY)!r}, 'w')\n".encode())
    yield Hostile("shell", f"#!/bin/sh\ntouch {CANARY}\n".encode())
    yield Hostile("json instead of ubj", b'{"learner": {}, "version": [3, 2, 0]}')
    yield Hostile("pickle after trees", ubj + pickle.dumps(Bomb()))


def _archives() -> Iterator[Hostile]:
    for name, inside in (("zip slip", "../../../model.json"), ("zip slip to a root", "/tmp/millrace-canary")):
        data = io.BytesIO()
        with zipfile.ZipFile(data, "w") as archive:
            archive.writestr(inside, "out")
        yield Hostile(name, data.getvalue(), "weights.safetensors")
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:  # as torch.save writes
        archive.writestr("archive/data.pkl", pickle.dumps(Bomb()))
        archive.writestr("archive/version", "3\n")
    yield Hostile("torch archive with a pickle", data.getvalue(), "weights.safetensors")
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        link = tarfile.TarInfo("../out")
        link.type, link.linkname = tarfile.SYMTYPE, str(CANARY)
        tar.addfile(link)
    yield Hostile("tar with a link", data.getvalue())


def _beside(ubj: bytes) -> Iterator[Hostile]:
    loader = b"flavors:\n  python_function:\n    loader_module: this_executes\n    code: code\n"
    flavour = b"flavors:\n  sklearn:\n    pickled_model: model.pkl\n    serialization_format: cloudpickle\n"
    pickled = pickle.dumps(Bomb())
    yield Hostile(
        "MLmodel with a loader", ubj, beside={"MLmodel": loader, "code/this_executes.py": b"raise SystemExit"}
    )
    yield Hostile("MLmodel with a pickle", ubj, beside={"MLmodel": flavour, "model.pkl": pickled})
    yield Hostile("pickle beside", ubj, beside={"python_model.pkl": pickled})
    yield Hostile("torch file beside", ubj, beside={"pytorch_model.bin": pickled})
    yield Hostile("python beside", ubj, beside={"sitecustomize.py": f"open({str(CANARY)!r}, 'w')".encode()})


def _cards(ubj: bytes) -> Iterator[Hostile]:
    for name, file in (
        ("file above", "../weights.ubj"),
        ("file at a root", "/etc/passwd"),
        ("file of a pickle", "weights.pkl"),
    ):
        yield Hostile(name, ubj, card={"weights": {"file": file}})
    yield Hostile("learner of a module", ubj, card={"learner": {"kind": "os:system"}})
    yield Hostile("learner with an engine", ubj, card={"learner": {"kind": "xgboost", "engine": "os:system"}})
    yield Hostile("code of its own", ubj, card={"code": f"open({str(CANARY)!r}, 'w')", "learner": {"kind": "custom"}})
    yield Hostile("a key more", ubj, card={"loader_module": "this_executes"})
    yield Hostile("a card that is a pickle", ubj, text=lambda card: pickle.dumps(Bomb()))
    yield Hostile("a card cut off", ubj, text=lambda card: card[: len(card) // 2])


def _changed(ubj: bytes, tensors: bytes) -> Iterator[Hostile]:
    for place in (0.3, 0.9):
        flipped = bytearray(ubj)
        flipped[int(len(ubj) * place)] ^= 1
        yield Hostile(f"bit flipped at {place}", bytes(flipped), honest=False)
    yield Hostile("card changed", ubj, honest=False, text=lambda card: card.replace(b'"seed":7', b'"seed":8'))
    yield Hostile("trees cut off", ubj[: len(ubj) // 2])
    yield Hostile("trees without their last byte", ubj[:-1])
    yield Hostile("tensors cut off", tensors[:-3], "weights.safetensors")
    yield Hostile("nothing", b"")


def patched(ubj: bytes, name: bytes, position: int, value: int, *, last: bool = False) -> bytes:
    """Trees with one number of the first array of this name changed: 32 bits each, after mark and length."""
    at = ubj.index(name + b"[$l#L") + len(name) + 5
    size = int.from_bytes(ubj[at : at + 8], "big")
    at += 8 + 4 * (size - 1 if last else position)
    return ubj[:at] + struct.pack(">i", value) + ubj[at + 4 :]


def _misleading_trees(ubj: bytes) -> Iterator[Hostile]:
    yield Hostile("child beyond the tree", patched(ubj, b"left_children", 0, 1 << 30))
    yield Hostile("child that leads back", patched(ubj, b"right_children", 0, 0))
    yield Hostile("leaf that is none", patched(ubj, b"left_children", 0, -5, last=True))
    yield Hostile("parent that is another", patched(ubj, b"parents", 2, 1 << 20))
    at = ubj.index(b"tree_info[#L") + len(b"tree_info[#L") + 9
    yield Hostile("output beyond the classes", ubj[:at] + bytes([7]) + ubj[at + 1 :])
    yield Hostile("feature beyond the rows", patched(ubj, b"split_indices", 0, 1 << 30))
    at = ubj.index(b"base_weights[$d#L") + len(b"base_weights[$d#L")
    yield Hostile("array of a terabyte", ubj[:at] + struct.pack(">q", 1 << 40) + ubj[at + 8 :])
    yield Hostile("nested without end", b"{L" + struct.pack(">q", 1) + b"a" + b"[" * 100_000)


def _misleading_tensors(tensors: bytes) -> Iterator[Hostile]:
    size = int.from_bytes(tensors[:8], "little")
    header, body = json.loads(tensors[8 : 8 + size]), tensors[8 + size :]
    first = next(name for name in header if name != "__metadata__")

    def written(changed: dict[str, Any]) -> bytes:
        text = json.dumps(changed).encode()
        return len(text).to_bytes(8, "little") + text + body

    over = {**header, first: {**header[first], "data_offsets": [0, len(body)]}}
    yield Hostile("tensors over each other", written(over), "weights.safetensors")
    yield Hostile(
        "shape of a terabyte", written({**header, first: {**header[first], "shape": [1 << 38]}}), "weights.safetensors"
    )
    yield Hostile("two headers", written({**header, "__metadata__": {"format": "pt"}})[:-1], "weights.safetensors")
    yield Hostile("header beyond the file", (1 << 62).to_bytes(8, "little") + tensors[8:], "weights.safetensors")


def _graphs() -> Iterator[Hostile]:
    good = graphs.data(graphs.trees())
    inside = helper.make_node("Execute", ["X"], ["inside"], domain="this.executes")
    for name, data in (
        ("pickle as onnx", pickle.dumps(Bomb())),
        ("values outside the folder", graphs.data(graphs.with_external(graphs.trees()))),
        ("values beside the model", graphs.data(graphs.with_external(graphs.trees(), "model.json"))),
        ("operator of another library", graphs.data(graphs.of_domain("this.executes"))),
        ("operator of another library in a branch", graphs.data(graphs.in_a_subgraph(inside))),
        ("function of its own", graphs.data(graphs.with_function())),
        ("loop without end", graphs.data(graphs.loop())),
        ("pickle after a graph", good + pickle.dumps(Bomb())),
        ("trees deeper than a stack", graphs.data(graphs.chain(100_000))),
        ("integers whose division ends the process", graphs.data(graphs.divided())),
    ):
        yield Hostile(name, data, "weights.onnx")

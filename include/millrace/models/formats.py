"""Formats of weights that hold no code, read strictly: whole to the last byte, no number that leads out of the file.

What reads weights afterwards (XGBoost, safetensors, onnxruntime) is native code, and trusts sizes and indices that it
finds in them.
"""

from __future__ import annotations

import json
import math
import struct
from typing import Any

import numpy as np

from millrace.core.errors import DataError
from millrace.models.classes import MOST
from millrace.models.refused import Bad

_INTEGERS = {mark: struct.Struct(kind) for mark, kind in zip(b"iUIlL", (">b", ">B", ">h", ">i", ">q"), strict=True)}
_NUMBERS = _INTEGERS | {ord("d"): struct.Struct(">f"), ord("D"): struct.Struct(">d")}
"""Mark -> how the number after it is read."""
_TYPED = {mark: np.dtype(kind) for mark, kind in zip(b"iUIlLdD", (">i1", ">u1", ">i2", ">i4", ">i8", ">f4", ">f8"),
                                                     strict=True)}  # fmt: skip
_PLAIN: dict[int, Any] = {ord("Z"): None, ord("N"): None, ord("T"): True, ord("F"): False}
_ARRAY, _TEXT, _OBJECT, _END_OF_OBJECT, _END_OF_ARRAY, _TYPE, _SIZE = b"[S{}]$#"
_NODES = ("left_children", "right_children", "parents", "split_indices", "split_conditions", "default_left",
          "base_weights", "loss_changes", "sum_hessian", "split_type")  # fmt: skip
"""Arrays of a tree that have an entry for each node."""
_CATEGORIES = ("categories", "categories_nodes", "categories_segments", "categories_sizes")
_NONE, _ROOT = -1, 2**31 - 1
"""What stands for no child, and for the parent of a root."""
_DEEPEST = 32
_HEADER = 100_000_000
"""Largest header of a safetensors file, as its own reader has it."""
_BITS = {"BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16,
         "I32": 32, "U32": 32, "F32": 32, "F64": 64, "I64": 64, "U64": 64}  # fmt: skip


def check_weights(name: str, data: bytes) -> None:
    """Refuse weights that are not UBJ, safetensors or ONNX, by name and by content, and such as are not whole. Raises
    DataError."""
    try:
        if name.endswith(".ubj"):
            _check_trees(_Ubj(data).document())
        elif name.endswith(".safetensors"):
            _check_tensors(data)
        elif name.endswith(".onnx"):
            from millrace.models.onnx_graph import check_graph  # the package onnx: for the few models that are one

            check_graph(data)
        else:
            raise Bad("the name's ending is that of none")
    except Bad as err:
        raise DataError(
            f"these weights are not in a format that holds no code: {err}",
            given=name,
            allowed="UBJ, safetensors or ONNX files",
            next_step="Let the learner save its weights in one of these formats",
        ) from err


class _Ubj:
    """Reads Universal Binary JSON (ubjson.org, draft 12) as XGBoost writes it: typed arrays as numpy arrays."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at, self.end = data, 0, len(data)

    def document(self) -> dict[str, Any]:
        """The object that the file is."""
        if self.data[:1] != b"{":
            raise Bad("it does not begin as an object of UBJ does")
        self.at = 1
        found = self._object(0)
        if self.at != self.end:
            raise Bad(f"{self.end - self.at} bytes follow its end")
        return found

    # A model is thousands of small values, and a server opens a thousand models: this is written to be quick.

    def _past(self, size: int) -> int:
        """Step over so many bytes, and say where they begin."""
        first, self.at = self.at, self.at + size
        if size < 0 or self.at > self.end:
            raise Bad(f"it ends within a value, at byte {first}")
        return first

    def _mark(self) -> int:
        """The next byte, without stepping over it."""
        try:
            return self.data[self.at]
        except IndexError:
            raise Bad(f"it ends within a value, at byte {self.at}") from None

    def _size(self) -> int:
        number = _INTEGERS.get(self._mark())
        if number is None:
            raise Bad(f"no size stands where one must, at byte {self.at}")
        first = self._past(1 + number.size)
        return int(number.unpack_from(self.data, first + 1)[0])

    def _text(self) -> str:
        first = self._past(self._size())
        try:
            return self.data[first : self.at].decode()
        except UnicodeDecodeError as err:
            raise Bad(f"a text is not UTF-8, before byte {self.at}") from err

    def _value(self, depth: int) -> Any:
        mark = self._mark()
        self.at += 1
        if mark == _ARRAY:
            return self._array(depth)
        if mark == _TEXT:
            return self._text()
        if mark == _OBJECT:
            return self._object(depth)
        if (number := _NUMBERS.get(mark)) is not None:
            return number.unpack_from(self.data, self._past(number.size))[0]
        if mark in _PLAIN:
            return _PLAIN[mark]
        raise Bad(f"a mark is none of UBJ, at byte {self.at - 1}")

    def _object(self, depth: int) -> dict[str, Any]:
        self._nested(depth)
        found: dict[str, Any] = {}
        while self._mark() != _END_OF_OBJECT:
            name = self._text()
            if name in found:
                raise Bad(f"a key stands twice, before byte {self.at}")
            found[name] = self._value(depth + 1)
        self.at += 1
        return found

    def _array(self, depth: int) -> Any:
        self._nested(depth)
        mark = self._mark()
        if mark == _TYPE:
            first = self._past(3)
            kind = _TYPED.get(self.data[first + 1])
            if kind is None or self.data[first + 2] != _SIZE:
                raise Bad(f"an array has no type or size, before byte {self.at}")
            size = self._size()
            return np.frombuffer(self.data, kind, size, self._past(size * kind.itemsize)) if size else np.empty(0, kind)
        if mark == _SIZE:
            self.at += 1
            size = self._size()
            if size > self.end - self.at:
                raise Bad(f"an array is said to be longer than the file, before byte {self.at}")
            return [self._value(depth + 1) for _ in range(size)]
        found = []
        while self._mark() != _END_OF_ARRAY:
            found.append(self._value(depth + 1))
        self.at += 1
        return found

    def _nested(self, depth: int) -> None:
        if depth > _DEEPEST:
            raise Bad(f"it is nested deeper than {_DEEPEST}, at byte {self.at}")


def _check_trees(document: dict[str, Any]) -> None:
    """Trees of XGBoost: arrays as long as there are nodes, children and features that exist, and no way that turns back
    on itself."""
    try:
        learner = document["learner"]
        booster = learner["gradient_booster"]
        model = booster["gbtree"]["model"] if "gbtree" in booster else booster["model"]
        features, trees = int(learner["learner_model_param"]["num_feature"]), model["trees"]
        if int(model["gbtree_model_param"]["num_trees"]) != len(trees) or len(model["tree_info"]) != len(trees):
            raise Bad("it does not hold the trees that it counts")
        sizes = [int(tree["tree_param"]["num_nodes"]) for tree in trees]
        for number, (tree, nodes) in enumerate(zip(trees, sizes, strict=True)):
            if nodes < 1 or {len(tree[name]) for name in _NODES} != {nodes}:
                raise Bad(f"tree {number} has arrays of other lengths than its nodes")
            if any(len(tree[name]) for name in _CATEGORIES):
                raise Bad(f"tree {number} has splits by categories, which no learner here makes")
        _check_outputs(model, learner["learner_model_param"])
        if trees:
            _check_nodes(trees, np.array(sizes), features)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as err:
        raise Bad("it holds no trees as XGBoost writes them") from err


def _check_outputs(model: dict[str, Any], said: dict[str, Any]) -> None:
    """Every tree adds to an output that there is, and rounds hold trees in order."""
    outputs = max(1, int(said["num_class"]), int(said["num_target"]))
    info, rounds = (np.asarray(model[name], dtype=np.int64) for name in ("tree_info", "iteration_indptr"))
    if ((info < 0) | (info >= outputs)).any() or outputs > MOST:
        raise Bad("a tree adds to an output that there is not")
    if not len(rounds) or rounds[0] != 0 or rounds[-1] != len(info) or (np.diff(rounds) < 0).any():
        raise Bad("its rounds do not hold its trees")


def _check_nodes(trees: list[dict[str, Any]], sizes: Any, features: int) -> None:
    """The nodes of all trees together. XGBoost walks down by children and up by parents, and takes whatever child is
    not -1 for one."""
    left, right, up, split, kinds = (
        np.concatenate([tree[name] for tree in trees]).astype(np.int64)
        for name in ("left_children", "right_children", "parents", "split_indices", "split_type")
    )
    starts = np.cumsum(sizes) - sizes
    first = np.repeat(starts, sizes)
    inner = left != _NONE
    if (right[~inner] != _NONE).any():
        raise Bad("a tree has nodes with one child")
    above = np.arange(len(left))[inner]
    for children in (left[inner], right[inner]):
        if ((children < 1) | (children >= np.repeat(sizes, sizes)[inner])).any():
            raise Bad("a tree has children that do not exist")
        if (up[children + first[inner]] + first[inner] != above).any():
            raise Bad("a tree has a node whose parent is another")
    if 2 * len(above) != len(left) - len(trees) or (up[starts] != _ROOT).any():
        raise Bad("a tree has nodes that do not hang together")
    if ((split[inner] < 0) | (split[inner] >= features)).any() or kinds.any():
        raise Bad("a tree asks for features that there are not")


def _check_tensors(data: bytes) -> None:
    """Eight bytes of header length, a JSON header, and tensors that fill the rest without gap, none over another."""
    size = int.from_bytes(data[:8], "little")
    if len(data) < 8 or size > min(len(data) - 8, _HEADER):
        raise Bad("it does not begin as safetensors do")
    try:
        header = json.loads(data[8 : 8 + size].decode(), object_pairs_hook=_once)
        tensors = sorted(
            (*(int(place) for place in entry["data_offsets"]), entry["dtype"], entry["shape"])
            for name, entry in header.items()
            if name != "__metadata__"
        )
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as err:
        raise Bad("its header cannot be read") from err
    end = 0
    for tensor in tensors:
        if len(tensor) != 4 or tensor[2] not in _BITS:
            raise Bad("a tensor has no type or place")
        first, last, kind, shape = tensor
        if not isinstance(shape, list) or any(not isinstance(n, int) or n < 0 for n in shape):
            raise Bad("a tensor has no shape")
        if first != end or last - first != math.prod(shape) * _BITS[kind] // 8:
            raise Bad("tensors lie over each other, leave gaps, or are of another size than they say")
        end = last
    if end != len(data) - 8 - size:
        raise Bad("its tensors do not fill it")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({name for name, _ in pairs}) != len(pairs):
        raise ValueError("a key stands twice")
    return dict(pairs)

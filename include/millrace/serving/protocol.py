"""The Open Inference Protocol, version 2, over HTTP: tensors as JSON or as bytes after it, to rows and back.

https://github.com/open-inference/open-inference-protocol names the fields; binary tensors are its extension of that
name. A tensor is a column: one value for each row, in a shape of [rows] or [rows, 1]. Inputs are the model's features,
or the join keys of its entities, whose features are then read online, with what on-demand features take. NaN, and null
in JSON, are a missing value.
"""

from __future__ import annotations

import math
import reprlib
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from millrace.models.encoding import Feature
from millrace.serving.answering import Answer
from millrace.serving.refused import Refused
from millrace.serving.versions import Ready

NUMBERS = {
    "UINT8": "<u1", "UINT16": "<u2", "UINT32": "<u4", "UINT64": "<u8", "INT8": "<i1", "INT16": "<i2", "INT32": "<i4",
    "INT64": "<i8", "FP16": "<f2", "FP32": "<f4", "FP64": "<f8",
}  # fmt: skip
DATATYPES = ("BOOL", "BYTES", *NUMBERS)
_LENGTH = struct.Struct("<I")
_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = _REPR.maxlong = 80
Rows = list[dict[str, Any]]


def rows_of(body: Mapping[str, Any], binary: bytes) -> Rows:
    """The rows of a request's inputs. Raises Refused naming the input."""
    inputs = body.get("inputs")
    if not isinstance(inputs, list) or not inputs:
        raise Refused(400, "a request has inputs", where="inputs", given=_shown(inputs), allowed="a list of tensors")
    columns: dict[str, list[Any]] = {}
    at = 0
    for number, each in enumerate(inputs):
        where = f"inputs.{number}"
        if not isinstance(each, dict) or not isinstance(each.get("name"), str):
            raise Refused(400, "an input is an object with a name", where=where, given=_shown(each))
        name, datatype = each["name"], each.get("datatype")
        where = f"inputs.{name[:80]}"
        if name in columns:
            raise Refused(400, "an input stands twice", where=where)
        if datatype not in DATATYPES:
            raise Refused(400, "no such datatype", where=f"{where}.datatype", given=_shown(datatype), allowed=DATATYPES)
        count = _rows(each.get("shape"), where)
        size = _parameters(each, where).get("binary_data_size")
        if size is not None:
            if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= len(binary) - at:
                raise Refused(400, "the binary part does not hold this tensor", where=f"{where}.parameters",
                              given=_shown(size), allowed=f"up to {len(binary) - at} bytes")  # fmt: skip
            values = _binary(binary[at : at + size], datatype, where)
            at += size
        else:
            values = _listed(each.get("data"), datatype, where)
        if len(values) != count:
            raise Refused(400, "the data do not have the shape", where=where, given=f"{len(values)} values",
                          allowed=f"{count} values")  # fmt: skip
        columns[name] = values
    if at != len(binary):
        raise Refused(400, f"{len(binary) - at} bytes after the last tensor belong to none", where="inputs")
    counts = {len(values) for values in columns.values()}
    if len(counts) != 1:
        raise Refused(400, "inputs have different numbers of rows", where="inputs", given=sorted(counts))
    names = list(columns)
    return [dict(zip(names, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def response(answer: Answer, pipeline: str, wanted: Mapping[str, Any]) -> tuple[dict[str, Any], bytes]:
    """The body of an answer and the bytes that follow it, none unless the request asked for binary outputs.

    Rows that different versions answered have no one `model_version`: then `parameters.versions` has each row's.
    """
    ordered = answer.in_order()
    first = answer.parts[0]
    predictions = [part.predictions[n] for part, n in ordered]
    classes = first.ready.classes if first.ready is not None else ()
    outputs: list[dict[str, Any]] = []
    if classes and all(isinstance(each, list) for each in predictions):
        likeliest = [classes[each.index(max(each))] for each in predictions]
        kind = "BYTES" if isinstance(likeliest[0], str) else "INT64"
        outputs.append({"name": "prediction", "datatype": kind, "shape": [len(ordered)], "data": likeliest})
        flat = [share for each in predictions for share in each]
        shape = [len(ordered), len(classes)]
        outputs.append({"name": "probabilities", "datatype": "FP64", "shape": shape, "data": flat})
    else:
        text = any(isinstance(each, str) for each in predictions)
        data = [str(each) for each in predictions] if text else predictions
        kind = "BYTES" if text else "FP64"
        outputs.append({"name": "prediction", "datatype": kind, "shape": [len(ordered)], "data": data})
    asked = _asked_outputs(wanted, [each["name"] for each in outputs])
    outputs = [each for each in outputs if each["name"] in asked]
    binary = b""
    for each in outputs:
        if asked[each["name"]]:
            packed = _packed(each.pop("data"), each["datatype"])
            each["parameters"] = {"binary_data_size": len(packed)}
            binary += packed
    versions = [None if part.arm is None else part.arm.version for part, _ in ordered]
    one = len(set(versions)) == 1
    parameters: dict[str, Any] = {"generation": answer.generation}
    if one:
        parameters["role"] = first.role
    else:
        parameters |= {"versions": ",".join(str(v) for v in versions)}
    if not answer.logged:
        parameters["logged"] = False
    body: dict[str, Any] = {"model_name": pipeline, "id": answer.id, "parameters": parameters, "outputs": outputs}
    if one and versions[0] is not None:
        body["model_version"] = str(versions[0])
    return body, binary


def metadata(ready: Ready, versions: Sequence[int]) -> dict[str, Any]:
    """What a model takes and gives."""
    outputs = [{"name": "prediction", "datatype": "FP64", "shape": [-1]}]
    if ready.classes:
        kind = "BYTES" if isinstance(ready.classes[0], str) else "INT64"
        outputs = [
            {"name": "prediction", "datatype": kind, "shape": [-1]},
            {"name": "probabilities", "datatype": "FP64", "shape": [-1, len(ready.classes)]},
        ]
    return {
        "name": ready.deployment.pipeline,
        "versions": [str(version) for version in versions],
        "platform": f"millrace_{ready.card.learner.get('kind', 'model')}",
        "inputs": [
            {"name": each.name, "datatype": datatype(each), "shape": [-1]} for each in ready.card.encoder.features
        ],
        "outputs": outputs,
        "parameters": {
            "entity": ",".join(ready.deployment.entity),
            "task": ready.card.task,
            "classes": list(ready.classes),
            "digest": ready.deployment.model.digest,
            **({"request": ",".join(each.name for each in ready.computing.request)} if ready.computing else {}),
        },
    }


def datatype(feature: Feature) -> str:
    """A feature as the protocol names its type."""
    if feature.kind == "number":
        return "INT64" if feature.type.startswith(("int", "uint")) else "FP64"
    return "BYTES" if feature.kind == "text" else "BOOL"


def _asked_outputs(wanted: Mapping[str, Any], known: Sequence[str]) -> dict[str, bool]:
    """Output -> whether in binary."""
    every = bool(_parameters(wanted, "").get("binary_data_output"))
    outputs = wanted.get("outputs")
    if outputs is None or outputs == []:
        return dict.fromkeys(known, every)
    found: dict[str, bool] = {}
    if not isinstance(outputs, list):
        raise Refused(400, "outputs are a list", where="outputs", given=_shown(outputs))
    for number, each in enumerate(outputs):
        name = each.get("name") if isinstance(each, dict) else None
        if not isinstance(name, str) or name not in known:
            raise Refused(400, "no such output", where=f"outputs.{number}.name", given=_shown(name), allowed=known)
        found[name] = bool(_parameters(each, f"outputs.{number}").get("binary_data", every))
    return found


def _rows(shape: Any, where: str) -> int:
    good = isinstance(shape, list) and 1 <= len(shape) <= 2 and all(type(n) is int and n >= 0 for n in shape)
    if not good or (len(shape) == 2 and shape[1] != 1):
        raise Refused(400, "a tensor is a column", where=f"{where}.shape", given=_shown(shape),
                      allowed=["[rows]", "[rows, 1]"])  # fmt: skip
    return int(shape[0])


def _listed(data: Any, datatype: str, where: str) -> list[Any]:
    if not isinstance(data, list):
        raise Refused(400, "a tensor has data", where=f"{where}.data", given=_shown(data), allowed="a list")
    values = [each[0] if isinstance(each, list) and len(each) == 1 else each for each in data]
    for number, value in enumerate(values):
        if value is None:
            continue
        if datatype in NUMBERS:
            good = isinstance(value, int | float) and not isinstance(value, bool)
        else:
            good = isinstance(value, bool if datatype == "BOOL" else str)
        if not good:
            raise Refused(400, f"no {datatype}", where=f"{where}.data.{number}", given=_shown(value))
    if datatype.startswith("FP"):
        return [None if isinstance(v, float) and math.isnan(v) else v for v in values]
    return values


def _binary(data: bytes, datatype: str, where: str) -> list[Any]:
    if datatype == "BYTES":
        found, at = [], 0
        while at < len(data):
            end = at + 4 + (_LENGTH.unpack_from(data, at)[0] if at + 4 <= len(data) else len(data))
            if end > len(data):
                raise Refused(400, "the binary part ends within a text", where=where)
            try:
                found.append(data[at + 4 : end].decode())
            except UnicodeDecodeError:
                raise Refused(400, "a text is not UTF-8", where=where) from None
            at = end
        return found
    kind = np.dtype(NUMBERS.get(datatype, "<u1"))
    if len(data) % kind.itemsize:
        raise Refused(400, f"{len(data)} bytes are no whole number of {datatype}", where=where)
    values = np.frombuffer(data, kind).tolist()
    if datatype == "BOOL":
        return [bool(v) for v in values]
    return [None if v != v else v for v in values] if datatype.startswith("FP") else values


def _packed(values: list[Any], datatype: str) -> bytes:
    if datatype == "BYTES":
        encoded = [str(value).encode() for value in values]
        return b"".join(_LENGTH.pack(len(each)) + each for each in encoded)
    return np.asarray([math.nan if v is None else v for v in values], NUMBERS[datatype]).tobytes()


def _parameters(of: Any, where: str) -> Mapping[str, Any]:
    """The parameters of a request, an input or an output; `where` it is."""
    found = of.get("parameters")
    if found is not None and not isinstance(found, dict):
        raise Refused(400, "parameters are an object", where=f"{where}.parameters".lstrip("."), given=_shown(found))
    return found or {}


def _shown(value: Any) -> str:
    """A given value as a message repeats it: short, and of a long one no more is looked at."""
    text = _REPR.repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."

"""The Open Inference Protocol's messages for gRPC, made of a table, and what they are as the protocol's JSON.

https://github.com/open-inference/open-inference-protocol names their fields and numbers. With the JSON in between,
everything that is checked and answered stands in `protocol` once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from millrace.serving.refused import Refused

PACKAGE, SERVICE = "inference", "GRPCInferenceService"
_TABLE = {
    "ServerLiveRequest": "",
    "ServerLiveResponse": "live bool 1",
    "ServerReadyRequest": "",
    "ServerReadyResponse": "ready bool 1",
    "ModelReadyRequest": "name string 1, version string 2",
    "ModelReadyResponse": "ready bool 1",
    "ServerMetadataRequest": "",
    "ServerMetadataResponse": "name string 1, version string 2, extensions string* 3",
    "ModelMetadataRequest": "name string 1, version string 2",
    "ModelMetadataResponse": "name string 1, versions string* 2, platform string 3, inputs TensorMetadata* 4, "
    "outputs TensorMetadata* 5, properties {string} 6",
    "ModelMetadataResponse.TensorMetadata": "name string 1, datatype string 2, shape int64* 3",
    "InferParameter": "bool_param bool? 1, int64_param int64? 2, string_param string? 3, double_param double? 4, "
    "uint64_param uint64? 5",
    "InferTensorContents": "bool_contents bool* 1, int_contents int32* 2, int64_contents int64* 3, "
    "uint_contents uint32* 4, uint64_contents uint64* 5, fp32_contents float* 6, fp64_contents double* 7, "
    "bytes_contents bytes* 8",
    "ModelInferRequest": "model_name string 1, model_version string 2, id string 3, parameters {InferParameter} 4, "
    "inputs InferInputTensor* 5, outputs InferRequestedOutputTensor* 6, raw_input_contents bytes* 7",
    "ModelInferRequest.InferInputTensor": "name string 1, datatype string 2, shape int64* 3, "
    "parameters {InferParameter} 4, contents InferTensorContents 5",
    "ModelInferRequest.InferRequestedOutputTensor": "name string 1, parameters {InferParameter} 2",
    "ModelInferResponse": "model_name string 1, model_version string 2, id string 3, parameters {InferParameter} 4, "
    "outputs InferOutputTensor* 5, raw_output_contents bytes* 6",
    "ModelInferResponse.InferOutputTensor": "name string 1, datatype string 2, shape int64* 3, "
    "parameters {InferParameter} 4, contents InferTensorContents 5",
}
"""Message -> its fields: name, type, number. `type*` stands for many, `{type}` for a map from text, `type?` for one of
the choices of a parameter."""
_CONTENTS = {
    "BOOL": "bool_contents", "INT8": "int_contents", "INT16": "int_contents", "INT32": "int_contents",
    "INT64": "int64_contents", "UINT8": "uint_contents", "UINT16": "uint_contents", "UINT32": "uint_contents",
    "UINT64": "uint64_contents", "FP32": "fp32_contents", "FP64": "fp64_contents", "BYTES": "bytes_contents",
}  # fmt: skip
"""Datatype -> the field of its values. FP16 has none: it comes raw."""


def _messages() -> dict[str, Any]:
    """The classes of the messages."""
    file = descriptor_pb2.FileDescriptorProto(name="open_inference.proto", package=PACKAGE, syntax="proto3")
    made: dict[str, Any] = {}
    for name, fields in _TABLE.items():
        outer, _, inner = name.rpartition(".")
        message = made[name] = made[outer].nested_type.add(name=inner) if outer else file.message_type.add(name=name)
        for field in filter(None, fields.split(", ")):
            _add(message, name, *field.split(" "))
    pool = descriptor_pool.DescriptorPool()  # of its own: a client in the same process has messages of these names
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.{name}")) for name in _TABLE}


def _add(message: Any, owner: str, name: str, kind: str, number: str) -> None:
    of = descriptor_pb2.FieldDescriptorProto
    many, choice = kind[-1] in "*}", kind.endswith("?")
    field = message.field.add(name=name, number=int(number), label=of.LABEL_REPEATED if many else of.LABEL_OPTIONAL)
    if choice:
        if not message.oneof_decl:
            message.oneof_decl.add(name="parameter_choice")
        field.oneof_index = 0
    simple = kind.strip("*?{}")
    if kind[0] == "{":
        entry = f"{name.title().replace('_', '')}Entry"
        pair = message.nested_type.add(name=entry)
        pair.options.map_entry = True
        _add(pair, f"{owner}.{entry}", "key", "string", "1")
        _add(pair, f"{owner}.{entry}", "value", simple, "2")
        simple = f"{owner}.{entry}"
    elif f"{owner}.{simple}" in _TABLE:
        simple = f"{owner}.{simple}"
    if (scalar := getattr(of, f"TYPE_{simple.upper()}", None)) is not None:
        field.type = scalar
    else:
        field.type, field.type_name = of.TYPE_MESSAGE, f".{PACKAGE}.{simple}"


MESSAGES = _messages()
"""Name -> class."""


def read(name: str, data: bytes) -> Any:
    """A message from its bytes. Raises Refused, 400, for what is none."""
    try:
        return MESSAGES[name].FromString(data)
    except DecodeError:
        raise Refused(400, "the message cannot be read", where=name) from None


def body_of(request: Any) -> tuple[dict[str, Any], bytes]:
    """A ModelInferRequest as the body of the protocol's JSON, and the bytes of tensors that came raw after it.

    What came raw is answered raw. Raises Refused, 400, for contents that are of another type, or both kinds at once.
    """
    raw = list(request.raw_input_contents)
    if raw and len(raw) != len(request.inputs):
        raise Refused(400, "raw contents are as many as inputs", where="raw_input_contents", given=len(raw),
                      allowed=str(len(request.inputs)))  # fmt: skip
    inputs = []
    for number, each in enumerate(request.inputs):
        one: dict[str, Any] = {"name": each.name, "datatype": each.datatype, "shape": list(each.shape)}
        if not raw:
            one["data"] = _values(each)
        elif each.HasField("contents"):
            raise Refused(400, "a tensor is raw or has contents", where=f"inputs.{each.name[:80]}")
        else:
            one["parameters"] = {"binary_data_size": len(raw[number])}
        inputs.append(one)
    body = {
        "id": request.id, "inputs": inputs, "outputs": [{"name": each.name} for each in request.outputs],
        "parameters": {"binary_data_output": bool(raw)},
    }  # fmt: skip
    return body, b"".join(raw)


def reply_of(found: Mapping[str, Any], binary: bytes) -> Any:
    """A ModelInferResponse of the protocol's JSON and the bytes after it."""
    reply = MESSAGES["ModelInferResponse"](
        model_name=found["model_name"], model_version=found.get("model_version", ""), id=found["id"]
    )
    _put(reply.parameters, found["parameters"])
    at = 0
    for each in found["outputs"]:
        output = reply.outputs.add(name=each["name"], datatype=each["datatype"], shape=each["shape"])
        if (size := each.get("parameters", {}).get("binary_data_size")) is not None:
            reply.raw_output_contents.append(binary[at : at + size])
            at += size
        elif each["datatype"] == "BYTES":
            output.contents.bytes_contents.extend(str(value).encode() for value in each["data"])
        else:
            values = [math.nan if value is None else value for value in each["data"]]
            getattr(output.contents, _CONTENTS[each["datatype"]]).extend(values)
    return reply


def metadata_of(found: Mapping[str, Any]) -> Any:
    """A ModelMetadataResponse of the protocol's JSON."""
    parts = {name: found[name] for name in ("name", "versions", "platform", "inputs", "outputs")}
    properties = {
        name: ",".join(map(str, value)) if isinstance(value, list) else str(value)
        for name, value in found["parameters"].items()
    }
    return MESSAGES["ModelMetadataResponse"](**parts, properties=properties)


def _values(tensor: Any) -> list[Any]:
    field = _CONTENTS.get(tensor.datatype)
    given = [each.name for each, _ in tensor.contents.ListFields()]
    if field is None or given not in ([], [field]):
        raise Refused(400, "contents are not of the tensor's datatype", where=f"inputs.{tensor.name[:80]}",
                      given=f"{tensor.datatype[:20]} in {', '.join(given) or 'none'}",
                      allowed=[field] if field else sorted(_CONTENTS))  # fmt: skip
    values = list(getattr(tensor.contents, field))
    if field != "bytes_contents":
        return values
    try:
        return [value.decode() for value in values]
    except UnicodeDecodeError:
        raise Refused(400, "a text is not UTF-8", where=f"inputs.{tensor.name[:80]}") from None


def _put(parameters: Any, values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        kind = "bool" if isinstance(value, bool) else "int64" if isinstance(value, int) else "string"
        setattr(parameters[name], f"{kind}_param", value)

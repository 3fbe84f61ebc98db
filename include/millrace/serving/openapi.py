"""OpenAPI 3.1 of what a caller may ask, with an example for each pipeline from its model's card."""

from __future__ import annotations

from typing import Any

from millrace import __version__
from millrace.models.encoding import Feature
from millrace.rules.numbers import LARGEST
from millrace.serving.encoding import whole_numbers
from millrace.serving.flags import FLAGS, keys
from millrace.serving.in_force import InForce
from millrace.serving.inference import LONGEST_ID, NAME
from millrace.serving.protocol import DATATYPES, datatype
from millrace.serving.versions import Ready

Json = dict[str, Any]
ERRORS = {
    "400": "The request is wrong: which field or header, what was given, what is allowed.",
    "401": "No token, or one that is not known.",
    "403": "Not allowed to this caller.",
    "404": "No such pipeline, version or flag, or an entity without features.",
    "408": "The body did not come in time.",
    "413": "The body is too large, or has too many rows.",
    "415": "The body is packed in a way that is not read.",
    "429": "Too many requests.",
    "500": "No version could answer, and the pipeline has no constant to fall back to.",
    "503": "The online store or the prediction log does not work, or a person has stopped the pipeline.",
    "504": "No answer in time.",
}
# Without the surrogates: those are in no text of Unicode, and readers of patterns stumble over them.
_NAME: Json = {"maxLength": LONGEST_ID, "pattern": NAME.replace(r"\ud800-\udfff", "")}
_ID: Json = {"type": ["string", "null"], **_NAME}
_PARAMETERS: Json = {"type": ["object", "null"]}
_KEYS: Json = {
    "STRING": {"type": "string"}, "BYTES": {"type": "string", "contentEncoding": "base64"},
    "UNIX_TIMESTAMP": {"type": "string", "format": "date-time"},
    **{name: {"type": "integer", "minimum": -(2 ** (bits - 1)), "maximum": 2 ** (bits - 1) - 1}
       for name, bits in (("INT32", 32), ("INT64", 64))},
}  # fmt: skip
_FIELDS: Json = {
    "STRING": {"type": ["string", "null"]}, "BOOL": {"type": ["boolean", "null"]},
    "DOUBLE": {"type": ["number", "null"]},
    "FLOAT": {"type": ["number", "null"], "minimum": -LARGEST, "maximum": LARGEST},
    **{name: {**_KEYS[name], "type": ["integer", "null"]} for name in ("INT32", "INT64")},
}  # fmt: skip
"""What on-demand features take from a request."""
_FIELD_EXAMPLES: Json = {"string": "text", "boolean": True, "number": 1.5, "integer": 1}
_VERSION: Json = {
    "name": "x-version", "in": "header", "required": False, "schema": {"type": "integer", "minimum": 1},
    "description": "The version that shall answer; only testers choose another than the champion.",
}  # fmt: skip
_FLAGS = "/ofrep/v1/evaluate/flags"
_TYPES = {bool: "boolean", int: "integer", str: "string"}


def document(known: list[tuple[InForce, Ready | None]], *, secured: bool) -> Json:
    """The document for a caller who may ask these pipelines; a version that is not loaded has no schema of its own.

    `secured`: the server asks for tokens.
    """
    paths: Json = {
        "/v2": {"get": _get("The server, and what it can do.", {"type": "object"}, open_to_all=True)},
        "/v2/health/live": {"get": _get("Whether the server lives.", _state("live"), open_to_all=True)},
        "/v2/health/ready": {"get": _get("Whether it answers.", _state("ready"), open_to_all=True, unready=True)},
        "/openapi.json": {"get": _get("This document.", {"type": "object"})},
        _FLAGS: {"post": _evaluate("All flags of these pipelines, OpenFeature's protocol.", _BULK, bulk=True)},
    }
    for now, ready in known:
        name = now.plan.pipeline
        features = ready.card.encoder.features if ready is not None else ()
        paths[f"/predict/{name}"] = {"post": _predict(now, ready, features)}
        for path in (f"/v2/models/{name}", f"/v2/models/{name}/versions/{{version}}"):
            versioned = path.endswith("}")
            paths[path] = {"get": _get(f"What {name} takes and gives.", {"type": "object"}, versioned=versioned)}
            paths[f"{path}/ready"] = {"get": _get(f"Whether {name} answers.", {"type": "object"}, versioned=versioned)}
            paths[f"{path}/infer"] = {"post": _infer(now, features, versioned)}
        for key, kind in zip(keys(name), FLAGS.values(), strict=True):
            paths[f"{_FLAGS}/{key}"] = {"post": _evaluate(f"The flag {key}.", _flag({"type": _TYPES[kind]}))}
    made: Json = {
        "openapi": "3.1.0", "info": {"title": "Millrace predictions", "version": __version__}, "paths": paths,
    }  # fmt: skip
    if secured:
        made |= {"security": [{"bearer": []}],
                 "components": {"securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}}}}  # fmt: skip
    return made


def _predict(now: InForce, ready: Ready | None, features: tuple[Feature, ...]) -> Json:
    views = ready.deployment.views if ready is not None else ()
    kinds = {asked: view.types[own] for view in views for own, asked in view.join_keys.items()}
    keys = {key: _KEYS.get(kinds.get(key, ""), {"type": ["string", "integer"]}) for key in now.entity}
    fields = {each.name: _FIELDS[each.type] for each in now.request}
    needed = [each.name for each in ready.computing.request] if ready is not None and ready.computing else []
    entity = {"type": "object", "required": [*now.entity, *needed], "additionalProperties": False,
              "properties": {**keys, **fields}}  # fmt: skip
    row = {
        "type": "object", "required": [f.name for f in features], "additionalProperties": False,
        "properties": {f.name: _value(f) for f in features},
    }  # fmt: skip
    rows = {"type": "array", "minItems": 1, "maxItems": now.plan.serving.limits.rows}
    one_of: list[Json] = [
        {"type": "object", "required": ["entities"], "additionalProperties": False,
         "properties": {"entities": {**rows, "items": entity}, "id": _ID}}
    ]  # fmt: skip
    example = {key: 1 if keys[key]["type"] == "integer" else "one" for key in now.entity}
    example |= {name: _FIELD_EXAMPLES[fields[name]["type"][0]] for name in needed}
    examples: Json = {"entities": {"value": {"entities": [example]}}}
    if features:
        one_of.append(
            {"type": "object", "required": ["rows"], "additionalProperties": False,
             "properties": {"rows": {**rows, "items": row}, "id": _ID}}
        )  # fmt: skip
        examples["rows"] = {"value": {"rows": [{f.name: _example(f) for f in features}]}}
    return _post(f"Predictions of {now.plan.pipeline} by entities or by full rows.", {"oneOf": one_of}, examples)


def _infer(now: InForce, features: tuple[Feature, ...], versioned: bool) -> Json:
    tensor = {
        "type": "object", "required": ["name", "shape", "datatype"],
        "properties": {
            "name": {"type": "string"}, "datatype": {"enum": list(DATATYPES)}, "data": {"type": "array"},
            "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1, "maxItems": 2},
            "parameters": _PARAMETERS,
        },
    }  # fmt: skip
    output = {"type": "object", "required": ["name"],
              "properties": {"name": {"type": "string"}, "parameters": _PARAMETERS}}  # fmt: skip
    schema = {
        "type": "object", "required": ["inputs"],
        "properties": {
            "id": _ID, "parameters": _PARAMETERS,
            "inputs": {"type": "array", "minItems": 1, "items": tensor},
            "outputs": {"type": ["array", "null"], "items": output},
        },
    }  # fmt: skip
    inputs = [{"name": f.name, "datatype": datatype(f), "shape": [1], "data": [_example(f)]} for f in features]
    examples = {"rows": {"value": {"inputs": inputs}}} if inputs else {}
    made = _post(f"Inference by {now.plan.pipeline}, Open Inference Protocol 2.", schema, examples, versioned)
    # The binary tensor extension: JSON, and after it the bytes of the tensors.
    binary = {"schema": {"type": "string", "contentEncoding": "binary"}}
    made["responses"]["200"]["content"]["application/octet-stream"] = binary
    return made


def _flag(value: Json) -> Json:
    return {
        "type": "object", "required": ["key", "reason", "variant", "metadata"],
        "properties": {
            "key": {"type": "string"}, "value": value, "reason": {"enum": ["STATIC", "SPLIT", "DISABLED", "STALE"]},
            "variant": {"type": "string"}, "metadata": {"type": "object"},
        },
    }  # fmt: skip


_FAILED: Json = {"type": "object", "required": ["key", "errorCode"],
                 "properties": {"errorCode": {"type": "string"}, "errorDetails": {"type": "string"}}}  # fmt: skip
_BULK: Json = {"type": "object", "required": ["flags"], "properties": {"flags": {
    "type": "array", "items": {"anyOf": [_flag({"type": list(_TYPES.values())}), _FAILED]}}}}  # fmt: skip


def _evaluate(summary: str, schema: Json, *, bulk: bool = False) -> Json:
    key = {"type": "string", "description": "The unit, as requests name it in x-unit, or else the entity."}
    context = {"type": ["object", "null"], "properties": {"targetingKey": key}}
    body = {"type": "object", "properties": {"context": context}}
    responses = _responses(schema, ["400", "401", "403", "404", "408", "413", "415", "500", "503"])
    parameters: list[Json] = []
    if bulk:
        responses["304"] = {"description": "The flags are what if-none-match names."}
        responses["200"]["headers"] = {"etag": {"schema": {"type": "string"}}}
        parameters.append({"name": "if-none-match", "in": "header", "required": False, "schema": {"type": "string"}})
    return {
        "summary": summary, "parameters": parameters, "responses": responses,
        "requestBody": {"required": False, "content": {"application/json": {
            "schema": body, "examples": {"unit": {"value": {"context": {"targetingKey": "v1"}}}}}}},
    }  # fmt: skip


def _value(feature: Feature) -> Json:
    if feature.kind != "number":
        return {"type": ["string" if feature.kind == "text" else "boolean", "null"]}
    if feature.type.startswith(("int", "uint")):
        return {"type": ["integer", "null"], **_between(*whole_numbers(feature.type))}
    return {"type": ["number", "null"], **_between(-LARGEST, LARGEST)}


def _between(least: float, most: float) -> Json:
    return {"minimum": least, "maximum": most}


def _example(feature: Feature) -> Any:
    if feature.kind == "number":
        return 1 if feature.type.startswith(("int", "uint")) else 1.5
    if feature.kind == "text":
        return feature.categories[0] if feature.categories else "text"
    return True


def _post(summary: str, schema: Json, examples: Json, versioned: bool = False) -> Json:
    headers = [
        {"name": name, "in": "header", "required": False, "schema": {"type": "string", **_NAME},
         "description": text}
        for name, text in (("x-unit", "Whom one version answers throughout a rollout; the entity if left out."),
                           ("x-request-id", "Name of the request in the prediction log."))
    ]  # fmt: skip
    return {
        "summary": summary,
        "parameters": [*headers, _VERSION, *_versions(versioned)],
        "requestBody": {"required": True, "content": {"application/json": {"schema": schema, "examples": examples}}},
        "responses": _responses({"type": "object"}, list(ERRORS)),
    }


def _get(
    summary: str, schema: Json, *, open_to_all: bool = False, versioned: bool = False, unready: bool = False
) -> Json:
    errors = ["400"] if open_to_all else ["400", "401", "403", "404", "500", "503"]
    made: Json = {
        "summary": summary, "parameters": _versions(versioned), "responses": _responses(schema, errors),
    }  # fmt: skip
    if unready:
        made["responses"]["503"] = {"description": "Not yet.", "content": {"application/json": {"schema": schema}}}
    return {**made, "security": []} if open_to_all else made


def _versions(versioned: bool) -> list[Json]:
    if not versioned:
        return []
    return [{"name": "version", "in": "path", "required": True, "schema": {"type": "integer", "minimum": 1}}]


def _responses(schema: Json, errors: list[str]) -> Json:
    said = {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}}
    of = {code: {"description": ERRORS[code], "content": {"application/json": {"schema": said}}} for code in errors}
    return {"200": {"description": "The answer.", "content": {"application/json": {"schema": schema}}}, **of}


def _state(name: str) -> Json:
    return {"type": "object", "required": [name], "properties": {name: {"type": "boolean"}}}

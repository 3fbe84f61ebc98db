"""Keys are Feast's to the byte, and what cannot be a key is refused by name."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from feast.feature_view import DUMMY_ENTITY_ID, DUMMY_ENTITY_VAL
from feast.infra.key_encoding_utils import serialize_entity_key
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.type_map import python_values_to_proto_values
from feast.value_type import ValueType
from hypothesis import given
from hypothesis import strategies as st

from millrace.core.errors import DataError
from millrace.online.keys import KeyEncoder

MOMENTS = st.datetimes(
    datetime(1800, 1, 1),
    datetime(2200, 1, 1),
    timezones=st.one_of(st.none(), st.integers(-14, 14).map(lambda hours: timezone(timedelta(hours=hours)))),
)
VALUES: dict[Any, Any] = {
    "STRING": st.text(),
    "BYTES": st.binary(),
    "INT32": st.integers(-(2**31), 2**31 - 1),
    "INT64": st.integers(-(2**63), 2**63 - 1),
    "UNIX_TIMESTAMP": MOMENTS,
}
ENTITIES = st.dictionaries(
    st.text(min_size=1), st.sampled_from(sorted(VALUES)).flatmap(lambda kind: st.tuples(st.just(kind), VALUES[kind])),
    min_size=1, max_size=4,
)  # fmt: skip


def as_json(kind: str, value: Any) -> Any:
    if kind == "BYTES":
        return base64.b64encode(value).decode()
    return value.isoformat() if kind == "UNIX_TIMESTAMP" else value


def as_value(value: Any) -> Any:
    """A time in seconds as Feast counts them; other values as they are."""
    if not isinstance(value, datetime):
        return value
    return python_values_to_proto_values([value], ValueType.UNIX_TIMESTAMP)[0].unix_timestamp_val


@given(entity=ENTITIES)
def test_keys_are_feasts(entity: dict[str, tuple[Any, Any]]) -> None:
    encoder = KeyEncoder({name: (f"asked {name}", kind) for name, (kind, _) in entity.items()})
    made = encoder.encode({f"asked {name}": as_json(kind, value) for name, (kind, value) in entity.items()})
    values = [Value(**{f"{kind.lower()}_val": as_value(value)}) for kind, value in entity.values()]
    assert made == serialize_entity_key(EntityKey(join_keys=list(entity), entity_values=values), 3)


def test_a_view_without_entities_has_one_row() -> None:
    key = EntityKey(join_keys=[DUMMY_ENTITY_ID], entity_values=[Value(string_val=DUMMY_ENTITY_VAL)])
    assert KeyEncoder({}).encode({"anything": 1}) == serialize_entity_key(key, 3)


def test_values_of_python_are_taken_too() -> None:
    encoder = KeyEncoder({"raw": ("raw", "BYTES"), "at": ("at", "UNIX_TIMESTAMP")})
    moment = datetime(2024, 1, 2, 3, tzinfo=UTC)
    assert encoder.encode({"raw": b"\x00", "at": moment}) == encoder.encode({"raw": "AA==", "at": "2024-01-02T03:00Z"})


@pytest.mark.parametrize(
    ("kind", "value", "given"),
    [
        ("STRING", 5, "int"),
        ("STRING", None, "null"),
        ("STRING", "\ud800", "str"),
        ("STRING", ["secret"], "list"),
        ("INT64", "5", "str"),
        ("INT64", True, "bool"),
        ("INT64", 5.0, "float"),
        ("INT64", 2**63, "int"),
        ("INT32", 2**31, "int"),
        ("INT32", -(2**31) - 1, "int"),
        ("BYTES", "no base64!", "str"),
        ("BYTES", "ä", "str"),
        ("BYTES", 7, "int"),
        ("UNIX_TIMESTAMP", 1_700_000_000, "int"),
        ("UNIX_TIMESTAMP", "yesterday", "str"),
        ("UNIX_TIMESTAMP", None, "null"),
    ],
)
def test_what_cannot_be_a_key_is_refused_by_name_and_not_quoted(kind: Any, value: Any, given: str) -> None:
    with pytest.raises(DataError, match="join key 'vehicle_id' cannot be this value") as refused:
        KeyEncoder({"vehicle": ("vehicle_id", kind)}).encode({"vehicle_id": value})
    assert refused.value.where == "vehicle_id" and refused.value.given == given
    assert "secret" not in str(refused.value) and "yesterday" not in str(refused.value)


def test_a_join_key_that_is_missing_is_named() -> None:
    with pytest.raises(DataError, match="lacks a join key.*'vehicle_id'.*did you mean 'vehicle_ids'"):
        KeyEncoder({"vehicle": ("vehicle_id", "STRING")}).encode({"vehicle_ids": "a"})

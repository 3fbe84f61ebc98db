"""Online stores: a union, told apart by the scheme of the address that a setting gives.

A further one is a model here, a module of `feast_stores/online_stores` and one of `online`. It stands in this room
because the setting is read, and a wrong one refused, before anything of Feast's is there.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from millrace.core.errors import SpecError


class SQLiteStore(BaseModel):
    """A file: the embedded online store.

    `engine` names what reads and writes it for Feast, `reader` what reads it for a server, each as `module:class`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    scheme: Literal[""]
    address: ClassVar[str] = "a file"
    engine: ClassVar[str] = "millrace.feast_stores.online_stores.sqlite:EntityRowOnlineStore"
    reader: ClassVar[str] = "millrace.online.sqlite:SQLiteReader"


class PostgreSQLStore(BaseModel):
    """A table per feature view."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    scheme: Literal["postgresql", "postgres"]
    address: ClassVar[str] = "postgresql://host/database"
    engine: ClassVar[str] = "millrace.feast_stores.online_stores.postgres:EntityRowOnlineStore"
    reader: ClassVar[str] = "millrace.online.postgres:PostgreSQLReader"


class RedisStore(BaseModel):
    """A hash per feature view."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    scheme: Literal["redis", "rediss"]
    address: ClassVar[str] = "redis://host:port/database"
    engine: ClassVar[str] = "millrace.feast_stores.online_stores.redis:EntityRowOnlineStore"
    reader: ClassVar[str] = "millrace.online.redis:RedisReader"


Store = SQLiteStore | PostgreSQLStore | RedisStore
SCHEMES: tuple[str, ...] = tuple(
    scheme for store in get_args(Store) for scheme in get_args(store.model_fields["scheme"].annotation) if scheme
)
_STORES: TypeAdapter[Store] = TypeAdapter(Annotated[Store, Field(discriminator="scheme")])


def store_at(address: str) -> Store:
    """The online store of an address. Raises SpecError for one of another kind."""
    scheme = address.partition("://")[0] if "://" in address else ""
    try:
        return _STORES.validate_python({"scheme": scheme})
    except ValidationError:
        allowed = [store.address for store in get_args(Store)]
        raise SpecError("no online store has such an address", given=f"{scheme}://..", allowed=allowed) from None

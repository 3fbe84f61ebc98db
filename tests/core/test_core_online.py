"""Online stores: a union, told apart by the scheme of an address."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from millrace.core.errors import SpecError
from millrace.core.imports import named
from millrace.core.online import SCHEMES, PostgreSQLStore, RedisStore, SQLiteStore, Store, store_at
from millrace.core.settings import Settings


@pytest.mark.parametrize(
    ("address", "store"),
    [
        ("/var/lib/online.db", SQLiteStore),
        ("data/online.db", SQLiteStore),
        ("postgresql://feast@db/online?passfile=/run/secrets/pgpass", PostgreSQLStore),
        ("postgres://feast@db/online", PostgreSQLStore),
        ("redis://cache:6379/0", RedisStore),
        ("rediss://cache:6379/0", RedisStore),
    ],
)
def test_an_address_says_which_store_it_is_of(tmp_path: Path, address: str, store: type) -> None:
    assert isinstance(store_at(address), store)
    assert Settings.load(tmp_path, {"MILLRACE_FEAST_ONLINE": address}).feast_online == address


def test_another_address_is_refused_by_the_setting_and_by_the_store(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="no online store has such an address.*allowed: a file, postgresql://"):
        store_at("http://cache")
    with pytest.raises(SpecError, match="MILLRACE_FEAST_ONLINE: this cannot be kept there"):
        Settings.load(tmp_path, {"MILLRACE_FEAST_ONLINE": "http://cache"})


@pytest.mark.parametrize("store", get_args(Store))
def test_what_reads_and_writes_a_store_is_a_module_of_its_own(store: type) -> None:
    from millrace.feast_stores.online_stores.rows import RowStore

    assert issubclass(named(store.engine), RowStore)


def test_no_scheme_is_of_two_stores() -> None:
    assert len(SCHEMES) == len(set(SCHEMES)) == 4

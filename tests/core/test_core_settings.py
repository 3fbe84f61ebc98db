"""Settings: where state is kept, refused at the start where that cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest

from millrace.core.errors import SpecError
from millrace.core.settings import Settings


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("MILLRACE_LEDGER", "postgresql+psycopg://millrace:hunter2@db/ledger"),
        ("MILLRACE_MLFLOW", "https://me:hunter2@mlflow.example"),
        ("MILLRACE_FEAST_ONLINE", "redis://:hunter2@cache:6379/0"),
        ("MILLRACE_FEAST_REGISTRY", "postgresql+psycopg://millrace:hunter2@db/feast"),
        ("MILLRACE_SIGNING_KEY", "pkcs11:token=t;object=o?module-path=/m.so&pin-value=hunter2"),
    ],
)
def test_an_address_with_a_password_is_refused_without_repeating_it(tmp_path: Path, name: str, address: str) -> None:
    with pytest.raises(SpecError, match=f"{name}: an address holds no password") as said:
        Settings.load(tmp_path, {name: address})
    assert "hunter2" not in str(said.value)


def test_state_of_another_kind_of_place_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="MILLRACE_STORE: this cannot be kept there"):
        Settings.load(tmp_path, {"MILLRACE_STORE": "gs://bucket/store"})


def test_a_misspelt_setting_is_named_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="Use MILLRACE_STORE"):
        Settings.load(tmp_path, {"MILLRACE_STOR": "x"})

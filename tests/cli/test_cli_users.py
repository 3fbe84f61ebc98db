"""Who an embedded Airflow knows, and under which environment its state is served."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from millrace.core.errors import MillraceError
from millrace.core.settings import SERVED_UNDER, Settings
from millrace.local import users


def test_users_stay_with_their_roles_beside_the_administrator(tmp_path):
    assert users.setting(tmp_path) == "admin:admin"

    users.add(tmp_path, {"ann": "op"}, running=False)
    users.add(tmp_path, {"bob": "viewer"}, running=False)

    assert users.setting(tmp_path) == "admin:admin,ann:op,bob:viewer"


def test_everybody_has_a_password_that_is_made_once_and_only_its_owner_reads(tmp_path):
    first = json.loads(users.passwords(tmp_path).read_text())
    users.add(tmp_path, {"ann": "op"}, running=False)
    path = users.passwords(tmp_path)
    found = json.loads(path.read_text())

    assert set(found) == {"admin", "ann"} and found["admin"] == first["admin"] != found["ann"]
    assert json.loads(users.passwords(tmp_path).read_text()) == found
    assert path.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("people", "words"),
    [
        ({"ann": "boss"}, "no role that Airflow knows .*boss.*allowed: admin, op, user, viewer|no role"),
        ({"ann": ""}, "no role"),
        ({"a,b": "op"}, "no user name"),
        ({"admin": "viewer"}, "the user 'admin' has the role admin"),
    ],
)
def test_what_is_no_user_is_refused_and_nobody_is_added(tmp_path, people, words):
    with pytest.raises(MillraceError, match=words):
        users.add(tmp_path, {"good": "op", **people}, running=False)
    assert users.setting(tmp_path) == "admin:admin"


def test_a_running_airflow_takes_no_further_user_but_those_it_has(tmp_path):
    users.add(tmp_path, {"ann": "op"}, running=False)

    users.add(tmp_path, {"ann": "op"}, running=True)
    with pytest.raises(MillraceError, match="millrace down"):
        users.add(tmp_path, {"bob": "op"}, running=True)


def test_state_that_was_served_under_production_stays_so_where_the_variable_is_left_out(tmp_path: Path):
    home = tmp_path / ".millrace"
    assert Settings.load(tmp_path, {}).environment == "dev"
    home.mkdir()
    (home / SERVED_UNDER).write_text("prod\n")

    assert Settings.load(tmp_path, {}).environment == "prod"
    assert Settings.load(tmp_path, {"MILLRACE_ENVIRONMENT": "dev"}).environment == "dev"
    assert Settings.load(tmp_path, {"MILLRACE_HOME": str(tmp_path / "other")}).environment == "dev"

"""The users of an embedded Airflow: its simple auth manager's, with a role each and a password made once."""

from __future__ import annotations

import json
import os
import re
import secrets
import tempfile
from collections.abc import Mapping
from pathlib import Path

from millrace.core.errors import MillraceError

ADMIN = "admin"
ROLES = ("viewer", "user", "op", "admin")
"""Of Airflow's simple auth manager, each with the rights of those before it."""
_NAME = re.compile(r"[A-Za-z0-9_.@-]{1,64}")


def setting(home: Path) -> str:
    """Airflow's `[core] simple_auth_manager_users`."""
    return ",".join(f"{name}:{role}" for name, role in sorted(_known(home).items()))


def add(home: Path, people: Mapping[str, str], *, running: bool) -> None:
    """Add users or change their roles. Raises MillraceError for a name or role that Airflow has not, and where Airflow
    runs with others: it reads them when it starts."""
    for name, role in people.items():
        if role not in ROLES:
            raise MillraceError(f"user '{name}' has no role that Airflow knows", given=role, allowed=ROLES)
        if not _NAME.fullmatch(name):
            raise MillraceError("this is no user name", given=name, allowed="letters, digits and _ . @ -")
        if name == ADMIN and role != ADMIN:
            raise MillraceError(f"the user '{ADMIN}' has the role {ADMIN}", given=role)
    known = _known(home)
    if known == (wanted := {**known, **people}):
        return
    if running:
        raise MillraceError("Airflow is running with other users", given=", ".join(people),
                            next_step="Run 'millrace down', then this again")  # fmt: skip
    _write(_file(home), json.dumps(wanted, indent=1))


def passwords(home: Path) -> Path:
    """The file with everybody's password, which only its owner reads; made here, once: both API servers would generate
    it at once, and one would read what the other has half written."""
    path = home / "airflow" / "simple_auth_manager_passwords.json.generated"
    found = json.loads(path.read_text()) if path.is_file() else {}
    missing = {name: secrets.token_urlsafe(12) for name in _known(home) if name not in found}
    if missing:
        _write(path, json.dumps({**found, **missing}))
    return path


def _known(home: Path) -> dict[str, str]:
    try:
        return {ADMIN: ADMIN, **json.loads(_file(home).read_text())}
    except FileNotFoundError:
        return {ADMIN: ADMIN}


def _file(home: Path) -> Path:
    return home / "users.json"


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".tmp-")  # readable by its owner only
    with os.fdopen(handle, "w") as file:
        file.write(text)
    Path(temporary).replace(path)

"""What runs on this machine for a project: one file, written whole, and a lock for whoever changes it."""

from __future__ import annotations

import fcntl
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from millrace.core.errors import MillraceError
from millrace.local.processes import Process
from millrace.local.rest import AirflowApi

FILE, LOCK = "up.json", "up.lock"
PATIENCE_S = 400
"""Longer than a start may take."""


@dataclass(frozen=True)
class Running:
    """What `millrace up` started: addresses for people, processes for `millrace down`, and whether it was healthy."""

    airflow_url: str
    mlflow_url: str
    user: str
    password_file: str
    processes: list[Process] = field(default_factory=list)
    ready: bool = False
    serving_urls: dict[str, str] = field(default_factory=dict)
    """Which pipelines -> where they are asked for predictions."""

    @property
    def password(self) -> str:
        """The administrator's password."""
        return self.passwords[self.user]

    @property
    def passwords(self) -> dict[str, str]:
        """User -> password, the administrator first."""
        found = {str(name): str(given) for name, given in json.loads(Path(self.password_file).read_text()).items()}
        return {self.user: found[self.user], **found}

    @property
    def api(self) -> AirflowApi:
        """A REST client of this Airflow, as its administrator."""
        return self.api_of(self.user)

    def api_of(self, user: str) -> AirflowApi:
        """A REST client as one of its users."""
        return AirflowApi(self.airflow_url, user, self.passwords[user])

    def alive(self) -> bool:
        """Whether all processes are still there."""
        return all(p.alive for p in self.processes)

    def with_(self, process: Process) -> Running:
        """With one process more."""
        return replace(self, processes=[*self.processes, process])


@contextmanager
def locked(home: Path) -> Iterator[int]:
    """Be the only one that starts or ends processes of this `home`; yields the lock's file descriptor, for children
    that must not outlive it unseen. Raises MillraceError when another one does not come to its end."""
    home.mkdir(parents=True, exist_ok=True)
    with (home / LOCK).open("a") as file:
        until, said = time.monotonic() + PATIENCE_S, False
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > until:
                    raise MillraceError(
                        "another 'millrace up' or 'millrace down' has been at work for too long",
                        where=str(home / LOCK),
                        next_step="End that command, then run 'millrace down'",
                    ) from None
            if not said:
                print("millrace: waiting for another 'millrace up' or 'millrace down' of this project", file=sys.stderr)
                said = True
            time.sleep(0.2)
        yield file.fileno()


def read(home: Path) -> Running | None:
    """What is on record, None when nothing is. Raises MillraceError for a record that cannot be read."""
    path = home / FILE
    try:
        value = json.loads(path.read_text())
        return Running(**{**value, "processes": [Process(**p) for p in value["processes"]]})
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError) as err:
        raise MillraceError(
            "the record of what runs cannot be read",
            where=str(path),
            next_step="End the project's airflow and mlflow processes by hand, then remove this file",
        ) from err


def write(home: Path, running: Running) -> None:
    """Put it on record."""
    handle, temporary = tempfile.mkstemp(dir=home, prefix=".tmp-")
    with open(handle, "w", encoding="utf-8") as file:
        json.dump(asdict(running), file)
    Path(temporary).replace(home / FILE)


def forget(home: Path) -> None:
    """Nothing runs any more."""
    (home / FILE).unlink(missing_ok=True)

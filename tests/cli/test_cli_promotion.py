"""`millrace promote` and `millrace champion`: what they refuse, what they ask Airflow for, and what they answer."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from support.ledger import evidence, promoted, trained

from millrace.core.settings import Settings
from millrace.ledger import Ledger, Registered
from millrace.local.processes import Process, _born

TO = ("promote", "visits", "--reason", "version 2 is worse", "--to")


class Airflow:
    """What the API server of `millrace up` answers, over HTTP; `runs` are those it was asked to start."""

    def __init__(self) -> None:
        self.runs: list[tuple[str, dict[str, Any]]] = []
        self.paused = False
        airflow = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.answer({"is_paused": airflow.paused})

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if self.path == "/auth/token":
                    return self.answer({"access_token": "t"})
                airflow.runs.append((self.path, body))
                self.answer({"dag_run_id": body["dag_run_id"]})

            def answer(self, value: Any) -> None:
                data = json.dumps(value).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def as_up(self, home: Path) -> None:
        """Leave the record that `millrace up` leaves; the process that runs is this one."""
        password = home / "passwords.json"
        password.write_text(json.dumps({"admin": "secret"}))
        process = Process("api-server", os.getpid(), _born(os.getpid()) or "")
        (home / "up.json").write_text(
            json.dumps(
                {
                    "airflow_url": self.url, "mlflow_url": "", "user": "admin", "password_file": str(password),
                    "processes": [process.__dict__],
                }
            )
        )  # fmt: skip


@pytest.fixture
def airflow() -> Iterator[Airflow]:
    server = Airflow()
    yield server
    server.server.shutdown()


@pytest.fixture
def ledger(shop: Path) -> Ledger:
    """Versions 1 and 2 were champion, 3 waits, and an older one never was."""
    settings = Settings.load(shop, {})
    settings.home.mkdir(exist_ok=True)
    ledger = Ledger.open(settings.ledger)
    for version in (1, 2, 3, 4):
        ledger.record(
            Registered(
                pipeline="visits", version=version, model=trained(version).model, evidence=evidence(version),
                decision=None,
            )
        )  # fmt: skip
    promoted(ledger, 1, pipeline="visits"), promoted(ledger, 3, pipeline="visits")
    return ledger


def test_a_rollback_starts_a_run_of_the_release_dag(millrace: Callable[..., Any], shop, ledger, airflow):
    airflow.as_up(shop / ".millrace")

    said = millrace(*TO, 1)

    assert said.code == 0, said.err
    ((path, body),) = airflow.runs
    assert path == "/api/v2/dags/visits__release/dagRuns"
    assert body["conf"] == {"version": "1", "reason": "version 2 is worse"}
    assert body["dag_run_id"].startswith("promote__v1__")
    assert said.out.startswith("started the rollback of visits to version 1: run promote__v1__")
    assert f"{airflow.url}/dags/visits__release/runs/promote__v1__" in said.out
    assert "paused" not in said.out and "approval" not in said.out
    assert len(ledger.champions("visits")) == 2, "the run decides, not the command"


def test_a_challenger_is_released_and_who_waits_for_whom_is_said(millrace, shop, ledger, airflow, monkeypatch):
    airflow.as_up(shop / ".millrace")
    airflow.paused = True
    monkeypatch.setenv("MILLRACE_ENVIRONMENT", "prod")

    said = millrace(*TO, 4)

    assert said.out.startswith("started the release of visits to version 4")
    assert "waits for an approval in Airflow, under Required actions" in said.out
    assert "The DAG is paused" in said.out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((*TO, 7), "no such version of visits was registered (given: 7); allowed: 1, 2, 3, 4"),
        ((*TO, 3), "visits version 3 is champion already"),
        ((*TO, 2), "version 3 of visits is champion; version 2 is older and never was (given: 2); allowed: 1"),
        (("promote", "visits", "--to", 1, "--reason", " "), "a promotion by hand needs a reason"),
        (("promote", "vists", "--to", 1, "--reason", "x"), "did you mean 'visits'"),
    ],
)
def test_what_could_not_be_promoted_starts_nothing(millrace, shop, ledger, airflow, words, message):
    airflow.as_up(shop / ".millrace")

    said = millrace(*words)

    assert said.code == 1 and message in said.err
    assert airflow.runs == []


@pytest.mark.parametrize("died", [True, False])
def test_without_an_airflow_it_says_what_to_trigger(millrace, shop, ledger, airflow, died):
    if died:
        airflow.as_up(shop / ".millrace")
        record = shop / ".millrace" / "up.json"
        record.write_text(record.read_text().replace(f'"pid": {os.getpid()}', '"pid": 999999999'))

    said = millrace(*TO, 1)

    assert said.code == 1 and "no Airflow that 'millrace up' started for this project is running" in said.err
    assert "trigger the DAG visits__release" in said.err and "version: 1, reason: version 2 is worse" in said.err


def test_the_champion_now_and_at_a_time(millrace, shop, ledger):
    first, second = ledger.champions("visits")

    now = millrace("champion", "visits")
    then = millrace("champion", "visits", "--at", (second.since - timedelta(microseconds=1)).isoformat())
    before = millrace("champion", "visits", "--at", "2013-05-01T12:00+02:00")

    assert now.out.startswith("visits: version 3, since ") and "(generation 2)" in now.out
    assert "trained to 2013-02 because: by hand" in now.out and "released because: a test" in now.out
    assert second.model_digest in now.out and second.evidence_digest in now.out
    assert then.out.startswith("visits: version 1 at ") and first.model_digest in then.out
    assert before == (0, "visits: no champion at 2013-05-01T12:00:00+02:00\n", "")


@pytest.mark.parametrize(
    ("at", "words"),
    [
        ("2013-05-01T12:00", "--at: a time needs its zone"),
        ("2013-05-01", "--at: a time needs its zone"),
        ("yesterday", "--at: not a time (given: 'yesterday'); allowed: ISO 8601"),
    ],
)
def test_a_time_that_names_no_moment_is_refused_in_words(millrace, shop, ledger, at, words):
    said = millrace("champion", "visits", "--at", at)

    assert said.code == 1 and said.out == "" and words in said.err


def test_an_unknown_pipeline_has_no_champion_to_tell(millrace, shop):
    said = millrace("champion", "vists")

    assert said.code == 1 and "did you mean 'visits'" in said.err

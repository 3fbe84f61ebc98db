"""People are told by Airflow's own notifiers: of what, in which words, and that nothing fails because a message did."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer
from typing import Any

import pytest
import structlog
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException, TaskAwaitingInput
from airflow.sdk.execution_time.callback_supervisor import execute_callback
from support.project import DAYS, PIPELINE, features
from support.releases import House
from support.task import asked, running

from millrace.airflow import build_dags
from millrace.airflow.runtime.site import Site
from millrace.airflow.runtime.tell import tell
from millrace.airflow.tasks import features as tasks
from millrace.airflow.tasks import landing
from millrace.contract import Outcome
from millrace.core.errors import SpecError

MAIL = """
notify:
  - of: [request, decision, failed_gate, alert, failed_run, missed_deadline]
    notifier: airflow.providers.smtp.notifications.smtp.SmtpNotifier
    arguments:
      smtp_conn_id: mail
      from_email: millrace@example.org
      to: [team@example.org]
      subject: "{{ millrace.subject }}"
      html_content: "<p>{{ millrace.text }}</p><a href='{{ millrace.link }}'>{{ millrace.pipeline }}</a>"
  - of: [decision]
    notifier: airflow.providers.http.notifications.HttpNotifier
    arguments:
      http_conn_id: hook
      endpoint: /told
      json: {happening: "{{ millrace.happening }}", said: "{{ millrace.text }}"}
  - of: [decision]
    notifier: nowhere.Notifier
"""


class Smtp(StreamRequestHandler):
    """As much of an SMTP server (RFC 5321) as takes a mail."""

    def handle(self) -> None:
        self.reply("220 here")
        while line := self.rfile.readline():
            word = line.split()[0].upper()
            if word == b"DATA":
                self.reply("354 go on")
                lines = iter(self.rfile.readline, b".\r\n")
                self.server.mails.append(message_from_bytes(b"".join(lines), policy=policy.default))  # type: ignore
            self.reply("221 bye" if word == b"QUIT" else "250 fine")
            if word == b"QUIT":
                return

    def reply(self, text: str) -> None:
        self.wfile.write(text.encode() + b"\r\n")


class Hook(BaseHTTPRequestHandler):
    """A webhook."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.posts.append((self.path, json.loads(body)))  # type: ignore[attr-defined]
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Nothing."""


class Told:
    """What came by mail and by the webhook."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []
        self.posts: list[tuple[str, Any]] = []

    @property
    def subjects(self) -> list[str]:
        return [mail["subject"] for mail in self.mails]

    def body(self, index: int = -1) -> str:
        part = self.mails[index].get_body(preferencelist=("html",))
        assert part is not None
        return str(part.get_content())


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Iterator[Told]:
    """Both servers, and the Connections that name them."""
    seen = Told()
    smtp = ThreadingTCPServer(("127.0.0.1", 0), Smtp)
    hook = ThreadingHTTPServer(("127.0.0.1", 0), Hook)
    smtp.mails, hook.posts = seen.mails, seen.posts  # type: ignore[attr-defined]
    for server in (smtp, hook):
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
    plain = {"disable_ssl": True, "disable_tls": True}
    mail = {"conn_type": "smtp", "host": "127.0.0.1", "port": smtp.server_address[1], "extra": plain}
    monkeypatch.setenv("AIRFLOW_CONN_MAIL", json.dumps(mail))
    monkeypatch.setenv("AIRFLOW_CONN_HOOK", f"http://127.0.0.1:{hook.server_address[1]}")
    yield seen
    for server in (smtp, hook):
        server.shutdown()
        server.server_close()


def notifying(root: Path, name: str = "dev") -> None:
    path = root / "include" / "environments" / f"{name}.yaml"
    path.write_text(path.read_text() + MAIL)
    Site.at.cache_clear()


def test_a_request_and_its_decision_are_told_once_each_whatever_slices_pass(guarded, told, monkeypatch):
    notifying(guarded.site.tree.root, "prod")
    house = House(guarded.site.tree.root, monkeypatch)
    house.register(1), house.open(1)
    with pytest.raises(TaskAwaitingInput):
        house.approve(1)
    for _ in range(2):
        with pytest.raises(TaskAwaitingInput):
            house.answer(1, by=None)

    assert told.subjects == ["[prod] Promote orders version 1 to champion?"]
    assert "log_loss" in told.body() and told.posts == []
    with pytest.raises(AirflowSkipException):
        house.answer(1, approved=False)
    assert told.subjects[1:] == ["[prod] orders version 1: rejected by ann"]
    assert told.posts[0][0] == "/told" and told.posts[0][1]["happening"] == "decision"
    assert "rejected by ann" in told.posts[0][1]["said"]


def test_a_failed_gate_is_told_with_what_failed(house, told):
    root = house.site.tree.root
    notifying(root)
    site = Site.at(str(root), PIPELINE)
    here = {"root": str(root), "pipeline": PIPELINE}
    with running(task_id="land.visits", partition_key=DAYS[4]):
        landed = landing.land("visits", **here)
    with running(task_id="gate_raw", partition_key=DAYS[4]):
        tasks.gate_raw({"visits": landed}, **here)
    assert told.mails == []
    with running(task_id="transform", partition_key=DAYS[4]):
        asked(tasks.transform, sources={"visits": landed}, **here).answered(
            Outcome(outputs={"data": features(site, DAYS[4])})
        )
    with running(task_id="gate_features", partition_key=DAYS[4]), pytest.raises(AirflowFailException):
        tasks.gate_features(**here)

    assert told.subjects == [f"[dev] orders {DAYS[4]}: features failed its gate"]
    assert "FAILED" in told.body()


def test_a_failed_run_is_told_by_the_dags_callback(house, told):
    root = house.site.tree.root
    quiet = build_dags(PIPELINE, str(root / "dags" / f"{PIPELINE}.py"))
    assert all(dag.on_failure_callback is None for dag in quiet)
    notifying(root)
    dags = {dag.dag_id: dag for dag in build_dags(PIPELINE, str(root / "dags" / f"{PIPELINE}.py"))}
    with running(f"{PIPELINE}__training", run_id="first") as context:
        context["dag_run"].dag_id, context["reason"] = f"{PIPELINE}__training", "task_failure"
        dags[f"{PIPELINE}__training"].on_failure_callback(context)

    assert told.subjects == ["[dev] orders__training: run first failed"]


LATE = """
deadlines: {features: PT2H, training: PT6H}
pipelines:
  orders:
    deadlines: {features: PT30M}
"""


def test_a_missed_deadline_is_told_with_a_link_by_what_airflow_calls(house, told, monkeypatch):
    root = house.site.tree.root
    notifying(root)
    path = root / "include" / "environments" / "dev.yaml"
    path.write_text(path.read_text() + LATE)
    Site.at.cache_clear()
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "http://airflow.example.org/")
    dags = {dag.dag_id: dag for dag in build_dags(PIPELINE, str(root / "dags" / f"{PIPELINE}.py"))}
    alerts = {name.partition("__")[2]: dag.deadline for name, dag in dags.items()}
    assert {part: alert[0].interval for part, alert in alerts.items() if alert} == {
        "features": timedelta(minutes=30), "training": timedelta(hours=6),
    }  # fmt: skip

    # as Airflow does in a process of its executor
    (alert,) = alerts["features"]
    stored = json.loads(json.dumps(alert.callback.serialize()))
    run = {"dag_id": "orders__features", "dag_run_id": "manual__2024-01-05T00:00:00+00:00", "state": "running"}
    context = {"dag_run": run, "deadline": {"id": "d", "deadline_time": "2024-01-05T00:30:00Z"}}
    log = structlog.get_logger()
    ended = execute_callback(stored["path"], {**stored["kwargs"], "context": context}, Path("dags"), None, log)

    assert ended == (True, None)
    late = "orders__features: run manual__2024-01-05T00:00:00+00:00 is not done PT30M after it was queued"
    assert told.subjects == [f"[dev] {late}"]
    assert f"{late} (it is running)" in told.body()
    link = "http://airflow.example.org/dags/orders__features/runs/manual__2024-01-05T00%3A00%3A00%2B00%3A00"
    assert link in told.body()


def test_a_deadline_that_nobody_is_told_of_is_refused(house):
    path = house.site.tree.root / "include" / "environments" / "dev.yaml"
    path.write_text(path.read_text() + LATE)
    Site.at.cache_clear()
    with pytest.raises(SpecError, match="nobody is told"):
        Site.at(str(house.site.tree.root), PIPELINE)


def test_nothing_fails_because_nobody_could_be_told(house, told, caplog, monkeypatch):
    notifying(house.site.tree.root)
    monkeypatch.setenv("AIRFLOW_CONN_HOOK", "http://127.0.0.1:9")
    site = Site.at(str(house.site.tree.root), PIPELINE)
    with running():
        tell(site, "decision", "decided", "by ann")

    assert told.subjects == ["[dev] decided"]
    assert "could not tell nowhere.Notifier of 'decision': ModuleNotFoundError" in caplog.text

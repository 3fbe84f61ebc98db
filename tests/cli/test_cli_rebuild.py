"""`millrace rebuild`: what is stale is said, and exactly that is made anew, by one backfill or by a run each."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from support.project import DAYS, PIPELINE, features, publish, sample
from typer.testing import CliRunner

from millrace.airflow.runtime.site import Site
from millrace.cli.app import app
from millrace.cli.rebuild import make_anew, stale
from millrace.core.errors import MillraceError
from millrace.local.rest import AirflowApi
from millrace.spec import Partitioning

DAG = f"{PIPELINE}__features"
CUT = Partitioning("day", "America/New_York")
WANTED = ["2024-03-09", "2024-03-10", "2024-03-11"]


class Airflow:
    """Airflow's API as far as a rebuild speaks to it, and what it was asked for."""

    def __init__(self, backfill: list[str] | None = None, paused: bool = False, state: str = "success") -> None:
        self.backfill, self.paused, self.state = backfill, paused, state
        self.asked: list[tuple[str, Any]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._say({"is_paused": outer.paused, "state": outer.state})

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                path = self.path.removeprefix("/api/v2")
                if path == "/auth/token":
                    self._say({"access_token": "t"})
                elif path == "/backfills/dry_run":
                    outer.asked.append(("dry run", body))
                    found = [{"partition_key": key} for key in outer.backfill or ()]
                    self._say({"backfills": found} if outer.backfill is not None else {}, 200 if found else 422)
                else:
                    outer.asked.append((path, body))
                    self._say({"id": 7, "dag_run_id": f"run/{body.get('partition_key')}"})

            def _say(self, value: Any, status: int = 200) -> None:
                self.send_response(status)
                self.end_headers()
                self.wfile.write(json.dumps(value).encode())

            def log_message(self, *given: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def api(self) -> AirflowApi:
        return AirflowApi(f"http://127.0.0.1:{self.server.server_port}", "u", "p")

    def made(self) -> list[tuple[str, Any]]:
        return [(path, body) for path, body in self.asked if path != "dry run"]


@pytest.fixture
def airflow(request: pytest.FixtureRequest) -> Iterator[Airflow]:
    made = Airflow(**getattr(request, "param", {}))
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.mark.parametrize("airflow", [{"backfill": WANTED}], indirect=True)
def test_one_backfill_makes_them_where_it_makes_just_these(airflow: Airflow) -> None:
    said: list[str] = []
    make_anew(airflow.api, DAG, CUT, WANTED, said.append)
    ((path, body),) = airflow.made()
    assert path == "/backfills" and body["dag_run_conf"] == {"rebuild": True}
    assert (body["reprocess_behavior"], body["max_active_runs"]) == ("completed", 1)
    # Clock time in the DAG's zone, also over a change of clocks
    assert (body["from_date"][:19], body["to_date"][:19]) == ("2024-03-09T00:00:00", "2024-03-11T00:00:00")
    assert "backfill 7 makes 2024-03-09 to 2024-03-11 anew" in said[0]


@pytest.mark.parametrize(
    "airflow", [{"backfill": None}, {"backfill": [*WANTED, "2024-03-12"]}], indirect=True, ids=["refused", "too many"]
)
def test_else_each_has_a_run_of_its_own_in_order(airflow: Airflow) -> None:
    said: list[str] = []
    make_anew(airflow.api, DAG, CUT, WANTED, said.append)
    runs = [(path, body["partition_key"], body["conf"]) for path, body in airflow.made()]
    assert runs == [(f"/dags/{DAG}/dagRuns", key, {"rebuild": True}) for key in WANTED]
    assert [line.split()[1] for line in said] == WANTED


@pytest.mark.parametrize("airflow", [{"state": "failed"}], indirect=True)
def test_those_after_a_failed_one_are_not_begun(airflow: Airflow) -> None:
    with pytest.raises(MillraceError, match="failed for 2024-03-09; those after it were not begun"):
        make_anew(airflow.api, DAG, CUT, WANTED, print)
    assert len(airflow.made()) == 1


@pytest.mark.parametrize("airflow", [{"paused": True}], indirect=True)
def test_nothing_is_asked_of_a_paused_dag(airflow: Airflow) -> None:
    with pytest.raises(MillraceError, match=f"airflow dags unpause {DAG}"):
        make_anew(airflow.api, DAG, CUT, WANTED, print)
    assert not airflow.asked


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A day of the present recipe, one of the SQL before, and one that no recipe was kept of."""
    made = sample(tmp_path_factory.mktemp("rebuild") / "shop")
    publish(made, DAYS[1])
    made.tables.move(f"{PIPELINE}/features", DAYS[0], features(made, DAYS[0]))
    path = made.tree.folder(PIPELINE) / "transform.sql"
    path.write_text(path.read_text() + "-- another\n")
    Site.at.cache_clear()
    site = Site.at(str(made.tree.root), PIPELINE)
    publish(site, DAYS[2])
    return site


def test_what_is_stale_is_named_with_what_made_it(site: Site) -> None:
    found = stale(site.tree, site.settings, PIPELINE)
    assert list(found.made_by) == [DAYS[0], DAYS[1]]
    assert f"orders: 2 of 3 published partitions are stale ({DAYS[0]}, {DAYS[1]})" in found.text
    assert "unrecorded" in found.text and found.text.endswith("millrace rebuild orders")


def run(site: Site, monkeypatch: pytest.MonkeyPatch, *words: str) -> Any:
    for name in ("MILLRACE_HOME", "MILLRACE_STORE", "MILLRACE_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    return CliRunner().invoke(app, [*words, "--project", str(site.tree.root)])


def test_check_says_what_is_stale_and_is_no_less_content(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    result = run(site, monkeypatch, "check")
    assert result.exit_code == 0, result.output
    assert "no problems" in result.output and "2 of 3 published partitions are stale" in result.output


def test_without_an_airflow_it_says_what_to_run(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    result = run(site, monkeypatch, "rebuild", PIPELINE)
    assert isinstance(result.exception, MillraceError)
    assert "2 partitions are stale" in str(result.exception) and "millrace up" in str(result.exception)
    assert f'{{"partition": "{DAYS[0]}", "rebuild": true}}' in str(result.exception)
    fresh = run(site, monkeypatch, "rebuild", PIPELINE, "--from", DAYS[2])
    assert fresh.exit_code == 0 and "nothing to do" in fresh.output
    wrong = run(site, monkeypatch, "rebuild", PIPELINE, "--to", "2024-1")
    assert "'2024-1' is not a day partition" in str(wrong.exception)

"""AirflowApi: the few calls of Airflow's public REST API that the command line needs."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

from millrace.core.errors import MillraceError, Unavailable


class AirflowApi:
    """A client of one Airflow API server. Raises Unavailable when it does not answer, MillraceError when it refuses."""

    def __init__(self, url: str, user: str, password: str) -> None:
        self.url = url.rstrip("/")
        self._user, self._password = user, password
        self._token: str | None = None

    def healthy(self) -> bool:
        """Whether the database, the scheduler and the DAG processor are up."""
        try:
            health = self._send("GET", "/api/v2/monitor/health", None, token=None)
        except MillraceError:
            return False
        return all(
            (health.get(part) or {}).get("status") == "healthy"
            for part in ("metadatabase", "scheduler", "dag_processor")
        )

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """Call `/api/v2<path>` and return the parsed answer."""
        for _ in range(2):
            if self._token is None:
                answer = self._send(
                    "POST", "/auth/token", {"username": self._user, "password": self._password}, token=None
                )
                self._token = answer["access_token"]
            try:
                return self._send(method, f"/api/v2{path}", body, token=self._token)
            except _Unauthorised:
                self._token = None  # expired; ask once more
        raise MillraceError("the Airflow API refused the user", where=self.url, given=self._user)

    def set_pool(self, name: str, slots: int, description: str) -> None:
        """Create a pool or change its slots."""
        body = {"name": name, "slots": slots, "description": description, "include_deferred": False}
        try:
            self.call("POST", "/pools", body)
        except MillraceError as err:
            if "409" not in str(err):
                raise
            self.call("PATCH", f"/pools/{name}", {"pool": name, **{k: v for k, v in body.items() if k != "name"}})

    def trigger(self, dag_id: str, conf: dict[str, Any], run_id: str | None = None) -> str:
        """Start a run by hand and return its run id."""
        body = {"conf": conf, "logical_date": None, **({"dag_run_id": run_id} if run_id else {})}
        return str(self.call("POST", f"/dags/{dag_id}/dagRuns", body)["dag_run_id"])

    def run_partition(self, dag_id: str, partition: str, conf: dict[str, Any]) -> str:
        """Start a run of one partition and return its run id."""
        body = {"conf": conf, "logical_date": None, "partition_key": partition}
        return str(self.call("POST", f"/dags/{dag_id}/dagRuns", body)["dag_run_id"])

    def pause(self, dag_id: str, paused: bool) -> None:
        """Pause or unpause a DAG."""
        self.call("PATCH", f"/dags/{dag_id}", {"is_paused": paused})

    def _send(self, method: str, path: str, body: Any, token: str | None) -> Any:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        data = json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(self.url + path, data=data, method=method, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                text = answer.read()
                return json.loads(text) if text else None
        except urllib.error.HTTPError as err:
            if err.code == 401 and token:
                raise _Unauthorised("token refused") from err
            detail = err.read().decode(errors="replace")[:500]
            raise MillraceError(f"the Airflow API answered {err.code}: {detail}", where=f"{method} {path}") from err
        except (urllib.error.URLError, OSError, ValueError) as err:
            raise Unavailable(f"the Airflow API does not answer: {err}", where=self.url) from err


class _Unauthorised(MillraceError):
    """The token is not accepted any more."""

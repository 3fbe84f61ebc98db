"""A client of the prediction server: asks for real flights from a few connections, and keeps what it was told."""

from __future__ import annotations

import http.client
import itertools
import json
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

CONNECTIONS = 4
PATIENCE_S = 60


@dataclass(frozen=True)
class Answer:
    """What one flight was told: when (seconds since the epoch), after how long, by which version (None: by none)."""

    at: float
    seconds: float
    flight: str
    status: int
    version: int | None
    prediction: float | None


class Client:
    """Asks one flight after another, from the start again after the last, `rate` a second; end it with `with`.

    A server that is not there yet is waited for, and one that closes a connection is asked on another.
    """

    def __init__(self, url: str, pipeline: str, flights: Sequence[str], rate: float) -> None:
        parts = urlsplit(url)
        self._host, self._port = str(parts.hostname), int(parts.port or 80)
        self._path, self._flights, self._rate = f"/predict/{pipeline}", flights, rate
        self._number, self._ended = itertools.count(), threading.Event()
        self._began = time.monotonic()
        self.answers: list[Answer] = []
        self.refused = ""
        """What was said where the newest flight was not answered."""
        self._threads = [threading.Thread(target=self._ask_on, daemon=True) for _ in range(CONNECTIONS)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, err: BaseException | None, at: TracebackType | None) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join(PATIENCE_S)

    def _ask_on(self) -> None:
        connection = http.client.HTTPConnection(self._host, self._port, timeout=PATIENCE_S)
        while not self._ended.is_set():
            number = next(self._number)
            if self._ended.wait(max(0.0, self._began + number / self._rate - time.monotonic())):
                break
            flight = self._flights[number % len(self._flights)]
            began = time.monotonic()
            try:
                status, told = self._ask(connection, flight)
            except (OSError, http.client.HTTPException):
                connection.close()
                status, told = 0, {"error": "no connection"}
                self._ended.wait(0.2)
            self.refused = str(told.get("error", ""))
            row = (told.get("predictions") or [{}])[0]
            answer = Answer(
                time.time(), time.monotonic() - began, flight, status, row.get("version"), row.get("prediction")
            )
            self.answers.append(answer)
        connection.close()

    def _ask(self, connection: http.client.HTTPConnection, flight: str) -> tuple[int, dict[str, Any]]:
        body = json.dumps({"entities": [{"flight_id": flight}]})
        connection.request("POST", self._path, body, {"content-type": "application/json"})
        response = connection.getresponse()
        return response.status, json.loads(response.read())

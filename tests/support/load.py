"""Live traffic of a prediction server: what it was answered, whether that was right, how long it took.

A closed loop asks as soon as it was answered. An open one asks at a rate, and each answer's time counts from when it
was to be asked: a server that stands still makes all that should have come meanwhile late.
"""

from __future__ import annotations

import itertools
import json
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from support.running import Load
from support.served import VEHICLES, Served, rows


@dataclass(frozen=True)
class Told:
    """One answer: when it was to be asked and when it came (seconds, monotonic), its status or the lost connection's
    error, and the versions that answered; None stands for the constant."""

    began: float
    ended: float
    what: str
    versions: tuple[int | None, ...] = ()

    @property
    def good(self) -> bool:
        return self.what == "200"


class Traffic(Load):
    """Clients of `trips`. `rate`: requests a second of an open loop; None: a closed one over `count` connections.

    Each request is a unit of its own and asks for one vehicle. `allowed` are the versions that may answer now; what
    another one answers, or not what that version says of the vehicle, is in `wrong`.
    """

    def __init__(
        self, port: int, values: Mapping[int, Any], allowed: Iterable[int | None], *, count: int = 8,
        rate: float | None = None, token: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__(port, count)
        self.values, self.allowed, self.rate = values, set(allowed), rate
        self.told: list[Told] = []
        self.wrong: list[str] = []
        self._headers = {"authorization": f"Bearer {token}"} if token else {}
        self._number = itertools.count()
        self._began = time.monotonic()

    def turn(self) -> tuple[Any, ...]:
        """The next vehicle, for a unit that asks once."""
        number = next(self._number)
        began = time.monotonic()
        if self.rate is not None:
            began = self._began + number / self.rate
            time.sleep(max(0.0, began - time.monotonic()))
        vehicle = number * 7 % VEHICLES
        body = json.dumps({"entities": [{"vehicle": f"v{vehicle}"}]})
        # what http.client does not take stands behind what it does
        return _Asked(("POST", "/predict/trips", body, {"x-unit": f"{self.port} {number}", **self._headers}),
                      began, vehicle)  # fmt: skip

    def took(self, asked: Any, status: int, body: bytes) -> Any:
        """Whether it is right."""
        found = json.loads(body)
        versions: tuple[int | None, ...] = ()
        if status == 200:
            (row,) = found["predictions"]
            version = row.get("version")
            versions = (version,)
            right = version is None or abs(row["prediction"] - self.values[version][asked.vehicle]) <= 1e-6
            if not right or version not in self.allowed:
                self.wrong.append(f"v{asked.vehicle}: {row}")
        self.told.append(Told(asked.began, time.monotonic(), str(status), versions))

    def lost(self, asked: Any, of: Any, how: Exception) -> None:
        """A connection that broke."""
        self.told.append(Told(asked.began, time.monotonic(), type(how).__name__))

    def errors(self, since: float = 0.0) -> Counter[str]:
        """What came instead of answers to what was asked since then."""
        return Counter(each.what for each in self.told if not each.good and each.ended >= since)

    def last_error(self, since: float) -> float:
        """Seconds from a moment until the last request failed; 0 where none did."""
        return max((each.ended - since for each in self.told if not each.good and each.ended >= since), default=0.0)

    def slowest(self, share: float = 0.99) -> float:
        """Milliseconds within which this share of the answers came."""
        took = sorted(each.ended - each.began for each in self.told)
        return took[int(share * (len(took) - 1))] * 1000 if took else 0.0


class _Asked(tuple[Any, ...]):
    """What is asked, and when it was to be."""

    began: float
    vehicle: int

    def __new__(cls, given: tuple[Any, ...], began: float, vehicle: int) -> _Asked:
        made = super().__new__(cls, given)
        made.began, made.vehicle = began, vehicle
        return made


def expected(served: Served) -> dict[int, Any]:
    """What versions 1 and 2 say of each vehicle."""
    table = rows(VEHICLES)
    return {version: served.model(served.deployed(version)).predict(table) for version in (1, 2)}

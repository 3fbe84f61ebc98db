"""What live traffic sees of each fault: done to real servers that are asked all the while."""

from __future__ import annotations

import hashlib
import os
import re
import resource
import shutil
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from support.load import Traffic, expected
from support.online_servers import RedisServer
from support.running import until
from support.served import Served
from support.serving import serving

STOP_S = 2.5
"""From the first bad answer until no replica asks the version any more, at most."""


@dataclass
class Seen:
    """What came of one row. `allowed`: how many errors there may be, and of which kinds; `recovered`: seconds from the
    fault to the last error; `within`: its bound."""

    asked: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    bound: str = "no error"
    most: int | None = 0
    kinds: tuple[str, ...] = ()
    recovered: float = 0.0
    within: float = 0.0
    also: str = ""

    def add(self, traffic: Traffic, since: float) -> Seen:
        """Take what some clients saw, with the time of the fault."""
        self.asked += len(traffic.told)
        self.errors += traffic.errors()
        self.wrong += traffic.wrong
        self.recovered = max(self.recovered, traffic.last_error(since))
        return self

    @property
    def faults(self) -> list[str]:
        """What is not as it should be."""
        found = [f"wrong answers: {self.wrong[:3]}"] if self.wrong else []
        if self.most is not None and self.errors.total() > self.most:
            found.append(f"{self.errors.total()} errors, allowed {self.most}")
        if strange := set(self.errors) - set(self.kinds):
            found.append(f"errors of kinds {strange}, allowed {self.kinds}")
        if self.recovered > self.within:
            found.append(f"recovered after {self.recovered:.1f} s, allowed {self.within}")
        return [*found, *(["nobody was answered"] if not self.asked - self.errors.total() else [])]


@dataclass
class Site:
    """Where a row happens: `seconds` of traffic before and after a fault, at `rate` requests a second (None: as many
    as `count` connections get through)."""

    served: Served
    folder: Path
    seconds: float = 1.0
    rate: float | None = 100.0
    count: int = 8

    @contextmanager
    def live(self, address: str, *allowed: int | None, **options: Any) -> Iterator[Traffic]:
        """Traffic, a while before what is done."""
        given = {"rate": self.rate, "count": self.count, **options}
        with Traffic(int(address.rsplit(":", 1)[1]), expected(self.served), allowed, **given) as traffic:
            time.sleep(self.seconds)
            yield traffic
            time.sleep(self.seconds)


LOST = ("RemoteDisconnected", "ConnectionResetError", "BrokenPipeError", "IncompleteRead")
"""What a client says whose connection broke."""


def swaps(site: Site) -> Seen:
    """Plans swapped every 0.3 s: a canary comes, grows, is promoted, goes back"""
    site.served.plan()
    with serving(site.served, "--workers", "2") as (address, _):
        with site.live(address, 1, 2) as traffic:
            began = time.monotonic()
            for generation in range(2, 2 + max(4, int(site.seconds * 4))):
                kind = generation % 4
                if kind == 0:
                    site.served.plan(generation, arms=(site.served.arm(2),), former=site.served.arm(1))
                else:
                    site.served.plan(generation, canary=(None, 0.1, 0.5, 0.9)[kind])
                time.sleep(0.3)
            time.sleep(1)
        return Seen().add(traffic, began)


def killed(site: Site) -> Seen:
    """A worker of two is killed with SIGKILL, three times"""
    site.served.plan()
    with serving(site.served, "--workers", "2") as (address, parent):
        with site.live(address, 1) as traffic:
            began = time.monotonic()
            for _ in range(3):
                began = time.monotonic()
                os.kill(_children(parent)[0], signal.SIGKILL)
                time.sleep(max(1.0, site.seconds))
        most = 3 * site.count
        return Seen(bound="one a connection and kill", most=most, kinds=LOST, within=1.0).add(traffic, began)


def sqlite_replaced(site: Site) -> Seen:
    """SQLite: its file is replaced under the server"""
    site.served.plan()
    with serving(site.served) as (address, _):
        with site.live(address, 1) as traffic:
            began = time.monotonic()
            other = site.folder / "other.db"
            shutil.copy(site.served.online, other)
            other.replace(site.served.online)
            time.sleep(1)
        return Seen(bound="503 for 1 s", most=None, kinds=("503",), within=1.0).add(traffic, began)


def sqlite_locked(site: Site) -> Seen:
    """SQLite: another process holds its lock for 1 s"""
    site.served.plan()
    with serving(site.served) as (address, _):
        with site.live(address, 1) as traffic:
            began = time.monotonic()
            lock = sqlite3.connect(site.served.online, isolation_level=None)
            lock.execute("BEGIN EXCLUSIVE")
            time.sleep(1)
            lock.execute("COMMIT")
            lock.close()
            time.sleep(1)
        return Seen(bound="503 while locked", most=None, kinds=("503", "504"), within=2.5).add(traffic, began)


def redis_restarted(site: Site) -> Seen:
    """Redis is restarted"""
    server = RedisServer(site.folder, durable=True)
    server.start()
    try:
        served = Served.make(site.folder / "redis", ("redis", server.url))
        served.plan()
        here = Site(served, site.folder, site.seconds, site.rate, site.count)
        with serving(served) as (address, _), here.live(address, 1) as traffic:
            began = time.monotonic()
            server.end()
            time.sleep(0.5)
            server.start()
            back = time.monotonic() - began
            time.sleep(1)
        return Seen(bound="503 while it is away", most=None, kinds=("503",), within=back + 1).add(traffic, began)
    finally:
        server.end()


def store_away(site: Site) -> Seen:
    """The store is away: no plan is read, and a canary fails whose veto cannot be written until it is back"""
    site.served.plan()
    store = Path(site.served.store)
    with serving(site.served, breaks="raises") as (address, _):
        with site.live(address, 1) as traffic:
            began = time.monotonic()
            plan = site.served.plan(2, since=2, canary=0.5)
            said = site.served.root / "here.log"
            until(lambda: "cannot answer request" in said.read_text(), 5)
            store.rename(site.folder / "away")
            store.write_text("no folder")
            until(lambda: "is stopped: errors" in said.read_text(), 10)
            time.sleep(2)
            store.unlink()
            (site.folder / "away").rename(store)
            until(lambda: site.served.plans.vetoed(plan) == {2}, 10)
        return Seen(also="the veto was written once the store was back").add(traffic, began)


def log_full(site: Site) -> Seen:
    """The prediction log's disk is full (each worker may write no longer file)"""
    site.served.plan()
    with serving(site.served) as (address, parent):
        with site.live(address, 1) as traffic:
            began = time.monotonic()
            (open_,) = (site.served.root / "log" / "0").glob("*.open")
            before = {child: resource.prlimit(child, resource.RLIMIT_FSIZE) for child in _children(parent)}
            for child, (_, hard) in before.items():
                resource.prlimit(child, resource.RLIMIT_FSIZE, (open_.stat().st_size, hard))
            time.sleep(1)
            for child, limit in before.items():
                resource.prlimit(child, resource.RLIMIT_FSIZE, limit)
            back = time.monotonic() - began
        seen = Seen(bound="503 while it is full", most=None, kinds=("503",), within=back + 0.5).add(traffic, began)
        assert seen.errors["503"], "the disk was not full"
        return seen


def log_full_constant(site: Site) -> Seen:
    """The same, where the pipeline answers its constant then, marked as such"""
    site.served.plan(serving={"fallback": {"constant": 0.25}, "log": {"when_full": "fallback"}})
    with serving(site.served) as (address, parent):
        with site.live(address, 1, None) as traffic:
            began = time.monotonic()
            for child in _children(parent):
                _, hard = resource.prlimit(child, resource.RLIMIT_FSIZE)
                resource.prlimit(child, resource.RLIMIT_FSIZE, (0, hard))
            time.sleep(1)
            for child in _children(parent):
                resource.prlimit(child, resource.RLIMIT_FSIZE, (hard, hard))
        told = sum(each.versions == (None,) for each in traffic.told)
        assert told, "the disk was not full"
        return Seen(also=f"{told} got the constant").add(traffic, began)


def canary(site: Site, breaks: str) -> Seen:
    """A canary of a fifth, then nothing of it"""
    kills = breaks in ("hangs", "crashes")
    site.served.plan()
    arguments = ("--hang", "2", "--workers", "2")
    with serving(site.served, *arguments, breaks=breaks) as (address, _):
        with site.live(address, 1) as traffic:
            began = time.monotonic()
            plan = site.served.plan(2, since=2, canary=0.2)
            until(lambda: site.served.plans.vetoed(plan) == {2}, 15)
            time.sleep(1)
        if not kills:
            return Seen().add(traffic, began)
        return Seen(bound="one a connection and worker", most=2 * site.count, kinds=(*LOST, "504"),
                    within=8.0 if breaks == "hangs" else 4.0).add(traffic, began)  # fmt: skip


def champion(site: Site, breaks: str, former: bool) -> Seen:
    """The version that answers all, after its promotion; without a former one, until a person plans another"""
    kills = breaks in ("hangs", "crashes")
    site.served.plan()
    with serving(site.served, "--hang", "2", "--workers", "2", breaks=breaks) as (address, _):
        with site.live(address, 1) as traffic:
            began = time.monotonic()
            before = site.served.arm(1) if former else None
            plan = site.served.plan(2, since=2, arms=(site.served.arm(2),), former=before)
            if former or kills:
                until(lambda: site.served.plans.vetoed(plan) == {2}, 30)
            time.sleep(1)
            if not former:
                site.served.plan(3, since=3)
            back = time.monotonic() - began
            time.sleep(1)
        if former and not kills:
            return Seen().add(traffic, began)
        if former:
            return Seen(bound="one a connection and worker", most=2 * site.count, kinds=(*LOST, "504"),
                        within=8.0 if breaks == "hangs" else 4.0).add(traffic, began)  # fmt: skip
        kinds = (*LOST, "503", "504") if kills else ("500", "503")
        return Seen(bound="all, until another plan", most=None, kinds=kinds, within=back + 1.5).add(traffic, began)


def shadow(site: Site, breaks: str) -> Seen:
    """A shadow of all requests"""
    plan = site.served.plan(shadow=site.served.arm(2, role="challenger"))
    with serving(site.served, "--shadow-hang", "2", breaks=breaks) as (address, _):
        with site.live(address, 1) as traffic:
            began = time.monotonic()
            if breaks == "is slow":
                time.sleep(2)
            else:
                until(lambda: site.served.plans.vetoed(plan) == {2}, 15)
        return Seen(also=f"99 % within {traffic.slowest():.0f} ms").add(traffic, began)


def replicas(site: Site) -> Seen:
    """A guard's veto on one of two servers"""
    site.served.plan()
    root = site.served.root
    with ExitStack() as stack:
        servers = [
            stack.enter_context(serving(site.served, "--log", str(root / f"log-{name}"), breaks="raises", name=name))
            for name in ("one", "two")
        ]
        one = stack.enter_context(site.live(servers[0][0], 1))
        # hardly any traffic there: it hears of the veto and does not find the harm by itself
        two = stack.enter_context(site.live(servers[1][0], 1, rate=5.0))
        began = time.monotonic()
        plan = site.served.plan(2, since=2, canary=0.1)
        until(lambda: site.served.plans.vetoed(plan) == {2}, 15)
        time.sleep(2.5)
    first, last = _times(root / "one.log", "cannot answer request"), []
    for name in ("one", "two"):
        stopped = [at for at in _times(root / f"{name}.log", r"in force: version 1 answers 1$")]
        last.append(max(stopped))
    took = (max(last) - first[0]).total_seconds()
    seen = Seen(also=f"{took:.1f} s from the first bad answer to the last replica's stop").add(one, began)
    seen.add(two, began)
    if took > STOP_S:
        seen.wrong.append(f"the last replica stopped after {took:.1f} s")
    return seen


def tenants(site: Site) -> Seen:
    """One tenant asks as fast as it can over twice the connections; what the other sees"""
    tokens = site.folder / "tokens.yaml"
    names = ("quiet", "floods")
    tokens.write_text("".join(
        f"{name}:\n  sha256: {hashlib.sha256(name.encode()).hexdigest()}\n  pipelines: [trips]\n" for name in names
    ))  # fmt: skip
    # the quiet one never has more than its half of the room, and the flood fills it
    site.served.plan(serving={"limits": {"waiting": site.count}})
    with serving(site.served, "--tokens", str(tokens)) as (address, _):
        with site.live(address, 1, rate=20.0, count=site.count // 2, token="quiet") as quiet:
            began = time.monotonic()
            alone = quiet.slowest(0.95)
            with site.live(address, 1, rate=None, count=2 * site.count, token="floods") as flood:
                pass
        assert set(flood.errors()) <= {"429"} and not flood.wrong, flood.errors()
        also = f"95 % within {quiet.slowest(0.95):.0f} ms, alone {alone:.0f}; the flood: {len(flood.told)} asked"
        return Seen(also=also).add(quiet, began)


def _children(parent: int) -> list[int]:
    """Workers of a server, and the process of shadows."""
    return [int(each) for each in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]


def _times(log: Path, what: str) -> list[datetime]:
    return [datetime.strptime(line[:23], "%Y-%m-%d %H:%M:%S,%f") for line in log.read_text().splitlines()
            if re.search(what, line) and re.match(r"\d{4}-", line)]  # fmt: skip


BROKEN = ("raises", "gives nan", "crashes", "hangs")
ROWS: dict[str, Callable[[Site], Seen]] = {
    "plans are swapped": swaps,
    "a worker is killed": killed,
    "SQLite file replaced": sqlite_replaced,
    "SQLite locked": sqlite_locked,
    "Redis restarted": redis_restarted,
    "store away": store_away,
    "log's disk full": log_full,
    "log's disk full, with a constant": log_full_constant,
    **{f"canary {how}": lambda site, how=how: canary(site, how) for how in BROKEN},  # type: ignore[misc]
    **{f"new champion {how}": lambda site, how=how: champion(site, how, True) for how in BROKEN},  # type: ignore[misc]
    **{f"only version {how}": lambda site, how=how: champion(site, how, False) for how in BROKEN},  # type: ignore[misc]
    **{f"shadow {how}": lambda site, how=how: shadow(site, how) for how in (*BROKEN, "is slow")},  # type: ignore[misc]
    "two servers, a veto": replicas,
    "a tenant floods": tenants,
}

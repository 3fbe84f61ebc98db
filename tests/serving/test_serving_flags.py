"""An application asks OpenFeature's own SDK, and sees what servers do: plans, vetoes, and what persons switch."""

from __future__ import annotations

import asyncio
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cli.test_cli_rollout import Shop
from openfeature import api
from openfeature.client import OpenFeatureClient
from openfeature.evaluation_context import EvaluationContext
from openfeature.event import EventDetails, ProviderEvent
from openfeature.exception import ErrorCode, ProviderNotReadyError
from openfeature.flag_evaluation import FlagEvaluationDetails, FlagType
from openfeature.provider import ProviderStatus
from serving.conftest import asking
from support.served import Served

from millrace.rules.traffic import meets_new
from millrace.serving.provider import TrafficProvider
from millrace.store import layout, open_store
from millrace.store.plans import Toggles, TrafficPlan, Veto

STOPPED, VERSION, ROLE = "trips/stopped", "trips/version", "trips/role"


class App:
    """An application: a client of the SDK, and the events that it heard."""

    def __init__(self, store: str | Any, **given: Any) -> None:
        self.provider = TrafficProvider(open_store(store) if isinstance(store, str) else store, **given)
        self.client: OpenFeatureClient = api.get_client("app")
        self.heard: list[tuple[str, EventDetails]] = []
        for event in ProviderEvent:
            self.client.add_handler(event, lambda details, name=event.value: self.heard.append((name, details)))

    def start(self) -> App:
        api.set_provider_and_wait(self.provider, "app")
        return self

    def ask(self, key: str, unit: str | None = None, default: Any = None) -> FlagEvaluationDetails[Any]:
        kind = {"stopped": FlagType.BOOLEAN, "version": FlagType.INTEGER, "role": FlagType.STRING}[key.split("/")[1]]
        given = {FlagType.BOOLEAN: False, FlagType.INTEGER: -1, FlagType.STRING: "?"}[kind]
        context = EvaluationContext(unit)
        return self.client.evaluate_flag_details(kind, key, given if default is None else default, context)

    def events(self, name: str) -> list[EventDetails]:
        mine = [(event, details) for event, details in self.heard if details.provider_name == "millrace"]
        return [details for event, details in mine if event == f"PROVIDER_{name}"]

    def within(self, seconds: float, true: Callable[[], bool]) -> float:
        """Wait until something is so; gives the seconds it took."""
        begun = time.monotonic()
        while not true():
            assert time.monotonic() - begun < seconds, self.heard
            time.sleep(0.005)
        return time.monotonic() - begun


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    yield
    api.shutdown()


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shop:
    monkeypatch.setattr("getpass.getuser", lambda: "ann")
    return Shop(tmp_path / "shop")


def test_4096_units_see_the_servers_own_assignment(served: Served):
    plan = served.plan(canary=0.3, serving={"missing": "defaults", "guards": {"predictions": False}})
    app = App(served.store).start()
    units = [f"u{n}" for n in range(4096)]

    async def ask() -> list[tuple[int, str]]:
        async with asking(served) as it:
            found = []
            for begin in range(0, len(units), 256):
                reply = await it.predict({"entities": [{"vehicle": unit} for unit in units[begin : begin + 256]]})
                found += [(row["version"], row["role"]) for row in reply.json()["predictions"]]
            return found

    answered = asyncio.run(ask())
    flags = [(app.ask(VERSION, unit), app.ask(ROLE, unit)) for unit in units]

    assert [(version.value, role.value) for version, role in flags] == answered
    assert {each.reason for pair in flags for each in pair} == {"SPLIT"}
    new = sum(version == 2 for version, _ in answered)
    assert new == sum(meets_new(plan.salt, unit, 0.3) for unit in units) and 1100 < new < 1360
    version, role = flags[0]
    assert version.variant == role.variant == role.value
    assert version.flag_metadata == {
        "generation": 1, "vetoed": "", "forced": False, "model": served.arm(version.value).model
    }  # fmt: skip


def test_a_lone_champion_needs_no_unit(served: Served):
    served.plan()
    app = App(served.store).start()
    found = app.ask(VERSION)
    assert (found.value, found.reason, found.variant, found.error_code) == (1, "STATIC", "champion", None)
    assert app.client.get_provider_status() is ProviderStatus.READY
    stopped = app.ask(STOPPED, default=True)
    assert (stopped.value, stopped.reason, stopped.variant) == (False, "STATIC", "answering")


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize(
    ("kind", "key", "unit", "code", "words"),
    [
        (FlagType.BOOLEAN, "trips/paused", "u", "FLAG_NOT_FOUND", "PIPELINE/stopped"),
        (FlagType.BOOLEAN, "trips", "u", "FLAG_NOT_FOUND", "no such flag"),
        (FlagType.INTEGER, "flights/version", "u", "FLAG_NOT_FOUND", "did you mean|trips/version"),
        (FlagType.INTEGER, VERSION, None, "TARGETING_KEY_MISSING", "x-unit"),
        (FlagType.STRING, ROLE, "", "TARGETING_KEY_MISSING", "trips/role"),
        (FlagType.STRING, ROLE, "\ud800", "INVALID_CONTEXT", "Unicode"),
        (FlagType.INTEGER, STOPPED, "u", "TYPE_MISMATCH", "allowed: bool"),
        (FlagType.BOOLEAN, VERSION, "u", "TYPE_MISMATCH", "allowed: int"),
        (FlagType.FLOAT, VERSION, "u", "TYPE_MISMATCH", "given: 'float'"),
        (FlagType.OBJECT, ROLE, "u", "TYPE_MISMATCH", "given: 'dict'"),
    ],
)
def test_what_cannot_be_evaluated_is_the_default_and_says_why(
    planned_canary: Served, kind: FlagType, key: str, unit: str | None, code: str, words: str, asynchronous: bool
):
    app = App(planned_canary.store).start()
    defaults: dict[FlagType, Any] = {FlagType.BOOLEAN: True, FlagType.INTEGER: -1, FlagType.STRING: "?",
                                     FlagType.FLOAT: 0.5, FlagType.OBJECT: {"a": 1}}  # fmt: skip
    given = (kind, key, defaults[kind], EvaluationContext(unit))
    found = (
        asyncio.run(app.client.evaluate_flag_details_async(*given))
        if asynchronous
        else app.client.evaluate_flag_details(*given)
    )
    assert (found.value, found.reason, found.error_code) == (defaults[kind], "ERROR", ErrorCode(code))
    assert any(word in found.error_message for word in words.split("|")), found.error_message


@pytest.fixture(scope="module")
def planned_canary(made: Served, tmp_path_factory: pytest.TempPathFactory) -> Served:
    root = tmp_path_factory.mktemp("canary") / "p"
    shutil.copytree(made.root, root)
    copied = Served(root, made.views)
    copied.plan(canary=0.5)
    return copied


def test_a_person_stops_forces_and_starts_and_applications_see_it_within_a_second(shop: Shop):
    """By the command line's own words, which leave events with a name in the ledger."""
    shop.champion(1)
    rollout = shop.begun(2)
    shop.ledger.advance_rollout("visits", rollout, 1, seen={}, reason="seen")
    shop.say("pause", "visits", "--reason", "look")  # brings the plan into the store
    app = App(shop.plans.objects).start()
    mine = {app.ask("visits/version", f"u{n}").value for n in range(64)}
    assert mine == {1, 2}

    shop.say("stop", "visits", "--reason", "wrong prices")
    assert app.within(1.0, lambda: app.ask("visits/stopped").value is True) < 1.0
    version = app.ask("visits/version", "u1", default=7)
    assert (version.value, version.reason, version.variant, version.error_code) == (7, "DISABLED", "none", None)
    assert app.ask("visits/role", "u1").value == "?"

    shop.say("force", "visits", "--version", "2", "--reason", "the other is wrong")
    assert app.within(1.0, lambda: app.ask("visits/stopped").value is False) < 1.0
    forced = [app.ask("visits/version", unit) for unit in (None, "u1", "u2")]
    assert [(each.value, each.reason, each.flag_metadata["forced"]) for each in forced] == [(2, "STATIC", True)] * 3

    shop.say("start", "visits", "--reason", "mended")
    app.within(1.0, lambda: app.ask("visits/version", "u1").reason == "SPLIT")
    assert {app.ask("visits/version", f"u{n}").value for n in range(64)} == {1, 2}

    app.within(1.0, lambda: len(app.events("CONFIGURATION_CHANGED")) == 3)
    for details in app.events("CONFIGURATION_CHANGED"):
        assert details.flags_changed == ["visits/stopped", "visits/version", "visits/role"]
        assert details.provider_name == "millrace"
    switched = [entry.event for entry in shop.ledger.entries("visits", "toggle")]
    assert [(e.by, e.stopped, e.version, e.reason) for e in switched] == [
        ("ann", True, None, "wrong prices"), ("ann", False, 2, "the other is wrong"), ("ann", False, None, "mended"),
    ]  # fmt: skip


def test_a_veto_counts_at_once_also_against_a_forced_version(served: Served):
    served.plan(canary=0.999, toggles=Toggles(version=2))
    app = App(served.store).start()
    assert app.ask(VERSION, "u1").value == 2
    served.plans.veto(Veto(pipeline="trips", generation=1, version=2, guard="slow", why="", at="2024-01-01"))
    app.within(1.0, lambda: app.ask(VERSION, "u1").value == 1)
    found = app.ask(VERSION, "u1")
    assert (found.reason, found.variant) == ("STATIC", "champion")
    assert (found.flag_metadata["vetoed"], found.flag_metadata["forced"]) == ("2", False)
    app.within(1.0, lambda: len(app.events("CONFIGURATION_CHANGED")) == 1)


def test_a_store_that_is_away_leaves_the_last_plan_and_is_told(served: Served):
    served.plan(canary=0.5)
    app = App(served.store).start()
    before = [app.ask(VERSION, f"u{n}").value for n in range(32)]
    Path(served.store).rename(served.root / "away")
    Path(served.store).write_text("no folder")
    app.within(1.0, lambda: len(app.events("STALE")) == 1)
    assert app.client.get_provider_status() is ProviderStatus.STALE
    found = [app.ask(VERSION, f"u{n}") for n in range(32)]
    assert [each.value for each in found] == before and {each.reason for each in found} == {"STALE"}
    assert app.ask(STOPPED).reason == "STALE"
    Path(served.store).unlink()
    (served.root / "away").rename(served.store)
    served.plan(2)
    app.within(1.0, lambda: app.ask(VERSION, "u1").reason == "STATIC")
    app.within(1.0, lambda: len(app.events("READY")) == 2 and len(app.events("CONFIGURATION_CHANGED")) == 1)
    assert app.client.get_provider_status() is ProviderStatus.READY and len(app.events("STALE")) == 1


def test_a_store_that_is_empty_all_at_once_is_away(served: Served):
    """A folder that is no longer mounted."""
    served.plan()
    app = App(served.store).start()
    Path(served.store).rename(served.root / "away")
    Path(served.store).mkdir()
    app.within(2.0, lambda: len(app.events("STALE")) == 1)
    assert (app.ask(VERSION).value, app.ask(VERSION).reason) == (1, "STALE")


@pytest.mark.parametrize("how", ["broken", "gone"])
def test_one_plan_that_cannot_be_read_makes_its_own_flags_stale(served: Served, how: str):
    served.plan()
    served.deploy(1, served.train(1), pipeline="taxis")
    served.plan(pipeline="taxis")
    app = App(served.store).start()
    if how == "broken":
        served.objects.put(layout.plan("trips"), b"{}")
    else:
        served.objects.delete(layout.plan("trips"))
    app.within(1.0, lambda: app.ask(VERSION).reason == "STALE")
    assert app.ask(VERSION).value == 1 and app.ask("taxis/version").reason == "STATIC"
    assert app.client.get_provider_status() is ProviderStatus.READY


def test_nobody_looked_for_long_is_stale_too(served: Served, monkeypatch: pytest.MonkeyPatch):
    """A store that holds a look for ever, or a fork, in which no thread of the parent's lives."""
    served.plan()
    app = App(served.store).start()
    held = threading.Event()
    monkeypatch.setattr(app.provider.follower, "look", lambda: held.wait(20))
    monkeypatch.setattr("millrace.serving.following.STALE_S", 0.2)
    app.within(2.0, lambda: app.ask(VERSION).reason == "STALE")
    held.set()


def test_a_provider_that_has_read_nothing_is_not_ready_and_gets_there(served: Served):
    served.plan()
    Path(served.store).rename(served.root / "away")
    Path(served.store).write_text("no folder")
    app = App(served.store)
    with pytest.raises(ProviderNotReadyError):
        app.start()
    found = app.ask(VERSION)
    assert (found.value, found.error_code) == (-1, ErrorCode.PROVIDER_NOT_READY)
    assert app.client.get_provider_status() is ProviderStatus.ERROR
    Path(served.store).unlink()
    (served.root / "away").rename(served.store)
    app.within(1.0, lambda: app.ask(VERSION).value == 1)
    app.within(1.0, lambda: app.client.get_provider_status() is ProviderStatus.READY)
    app.within(1.0, lambda: len(app.events("READY")) == 1)


def test_plans_are_swapped_under_load_and_each_answer_is_of_one_plan(served: Served):
    plans: dict[int, TrafficPlan] = {1: served.plan(canary=0.5)}
    app = App(served.store).start()
    seen: list[Any] = []
    ended = threading.Event()

    def load(n: int) -> None:
        while not ended.is_set():
            seen.append((f"u{n}", app.ask(VERSION, f"u{n}")))
            time.sleep(0.001)

    threads = [threading.Thread(target=load, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for generation in range(2, 6):
        share = (None, 0.9)[generation % 2]
        plans[generation] = served.plan(generation, canary=share)
        app.within(1.5, lambda generation=generation: seen[-1][1].flag_metadata["generation"] == generation)
    ended.set()
    for thread in threads:
        thread.join()
    for unit, found in seen:
        arms = plans[found.flag_metadata["generation"]].arms
        new = len(arms) > 1 and meets_new("trips 1", unit, arms[1].share)
        assert found.value == (2 if new else 1)


class ReadOnly:
    """A store that may be read."""

    def __init__(self, objects: Any) -> None:
        self._objects = objects
        self.asked: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        self.asked.add(name)
        assert name in ("list", "get", "get_versioned", "url", "exists"), name
        return getattr(self._objects, name)


def test_a_provider_reads_and_never_writes_and_follows_no_more_once_it_is_shut_down(served: Served):
    served.plan()
    objects = ReadOnly(served.objects)
    app = App(objects, only=("trips",)).start()
    served.plan(2, canary=0.5)
    app.within(1.0, lambda: app.ask(VERSION, "u1").reason == "SPLIT")
    thread = app.provider._thread
    api.shutdown()
    assert not thread.is_alive() and objects.asked == {"list", "get_versioned"}


def test_pipelines_that_are_not_asked_for_are_not_there(served: Served):
    served.plan()
    app = App(served.store, only=("taxis",)).start()
    assert app.ask(VERSION).error_code is ErrorCode.FLAG_NOT_FOUND

"""Jobs of tasks run in the tests' own process."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.project import DAYS, publish, sample
from support.releases import House
from support.rolling import Served

from millrace.airflow.runtime.site import Site


@pytest.fixture(autouse=True)
def _no_child_for_a_job(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process of the tests has run XGBoost and torch, and in a fork of such a one they hang."""
    from millrace.jobs import guard, runner

    monkeypatch.setattr(guard, "run", runner.run)


@pytest.fixture(scope="session")
def made_for_releases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("release") / "shop"
    sample(root)
    return root


@pytest.fixture
def asked_of_airflow(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What Airflow was asked to show under 'Required actions'."""
    shown: list[dict[str, Any]] = []
    monkeypatch.setattr(
        "airflow.providers.standard.operators.hitl.upsert_hitl_detail", lambda **given: shown.append(given)
    )
    return shown


@pytest.fixture
def house(
    made_for_releases: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked_of_airflow: list[dict[str, Any]]
) -> House:
    """Where the environment promotes without a human."""
    root = tmp_path / "shop"
    shutil.copytree(made_for_releases, root)
    return House(root, monkeypatch)


@pytest.fixture
def guarded(house: House, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    """Where a human must approve."""
    monkeypatch.setenv("MILLRACE_ENVIRONMENT", "prod")
    yield House(house.site.tree.root, monkeypatch)
    Site.at.cache_clear()


@pytest.fixture(scope="session")
def three_days(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with three published days and one that is not."""
    root = tmp_path_factory.mktemp("training") / "shop"
    site = sample(root)
    for day in DAYS[:3]:
        publish(site, day)
    return root


@pytest.fixture
def site(three_days: Path, tmp_path: Path) -> Site:
    """A copy of it."""
    root = tmp_path / "shop"
    shutil.copytree(three_days, root)
    Site.at.cache_clear()
    return Site.at(str(root), "orders")


@pytest.fixture
def served(house: House, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    """Where the pipeline serves, by shadow and two steps."""
    yield Served(house.site.tree.root, monkeypatch)
    Site.at.cache_clear()


@pytest.fixture
def guarded_served(guarded: House, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    """The same where a human must approve."""
    yield Served(guarded.site.tree.root, monkeypatch)
    Site.at.cache_clear()

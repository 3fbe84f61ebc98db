"""A cluster to run pods on: the one KUBECONFIG names, reached as tests/chart reaches it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "chart")]
from chart_cluster import CONFIRM, Cluster, kubeconfig  # noqa: E402

NO_CLUSTER = f"no cluster: set KUBECONFIG to that of an administrator, and {CONFIRM}=1 if tests may use his cluster"
left_out: list[int] = []


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what needs a cluster where there is none."""
    if kubeconfig() is not None:
        return
    mine = [i for i in items if i.path.parent == HERE and "cluster" in getattr(i, "fixturenames", ())]
    if mine:
        left_out.append(len(mine))
        items[:] = [i for i in items if i not in mine]
        config.hook.pytest_deselected(items=mine)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line for all of them."""
    for count in left_out:
        terminalreporter.write_line(f"SKIPPED [{count}] tests/cluster: {NO_CLUSTER}")


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """The cluster, reached as its administrator."""
    path = kubeconfig()
    assert path is not None
    yield Cluster(path)

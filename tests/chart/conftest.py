"""A cluster to test against: the one KUBECONFIG names. Every test works in namespaces of its own and removes them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from chart_cluster import CONFIRM, Cluster, kubeconfig
from chart_helm import Helm
from chart_helm import helm as find_helm

HERE = Path(__file__).parent
left_out: dict[str, int] = {}
NO_HELM = "no helm: go install helm.sh/helm/v3/cmd/helm@latest, and put it on PATH or into MILLRACE_HELM"
NO_CLUSTER = f"no cluster: set KUBECONFIG to that of an administrator, and {CONFIRM}=1 if tests may use his cluster"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what lacks helm or a cluster."""
    if find_helm() is None:
        _leave_out(config, items, "helm", NO_HELM)
    if kubeconfig() is None:
        _leave_out(config, items, "cluster", NO_CLUSTER)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line for each reason, not one for each test."""
    for why, count in left_out.items():
        terminalreporter.write_line(f"SKIPPED [{count}] tests/chart: {why}")


def _leave_out(config: pytest.Config, items: list[pytest.Item], fixture: str, why: str) -> None:
    mine = [i for i in items if i.path.parent == HERE and fixture in getattr(i, "fixturenames", ())]
    if mine:
        left_out[why] = len(mine)
        items[:] = [i for i in items if i not in mine]
        config.hook.pytest_deselected(items=mine)


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    """The cluster, reached as its administrator."""
    path = kubeconfig()
    assert path is not None
    return Cluster(path)


@pytest.fixture(scope="session")
def helm(tmp_path_factory: pytest.TempPathFactory) -> Helm:
    """The helm command, with no cluster: it lints and renders."""
    binary = find_helm()
    assert binary is not None
    return Helm(binary, tmp_path_factory.mktemp("helm"))


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[Callable[..., str]]:
    """Make a namespace with a name of its own; removed with all that it holds."""
    made: list[str] = []

    def make(kind: str, **labels: Any) -> str:
        made.append(cluster.make_namespace(kind, labels))
        return made[-1]

    try:
        yield make
    finally:
        for name in made:
            cluster.drop_namespace(name)

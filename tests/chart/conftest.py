"""A cluster to test against: the one KUBECONFIG names. Every test works in namespaces of its own and removes them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from chart_cluster import NO_CLUSTER, Cluster, kubeconfig
from chart_helm import Helm
from chart_helm import helm as find_helm
from support.left_out import leave_out

HERE = Path(__file__).parent
NO_HELM = "no helm: go install helm.sh/helm/v3/cmd/helm@latest, and put it on PATH or into MILLRACE_HELM"


@pytest.hookimpl(trylast=True)  # after -m and -k
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what lacks helm or a cluster."""
    leave_out(config, items, HERE, None if find_helm() else NO_HELM, "helm")
    leave_out(config, items, HERE, None if kubeconfig() else NO_CLUSTER, "cluster")


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

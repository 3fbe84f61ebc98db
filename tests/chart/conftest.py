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

NO_HELM = "no helm: go install helm.sh/helm/v3/cmd/helm@latest, and put it on PATH or into MILLRACE_HELM"
NO_CLUSTER = f"no cluster: set KUBECONFIG to that of an administrator, and {CONFIRM}=1 if tests may use his cluster"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what lacks helm or a cluster, with one line for each file."""
    lacking = {name: why for name, why, here in (("helm", NO_HELM, find_helm()), ("cluster", NO_CLUSTER, kubeconfig()))
               if here is None}  # fmt: skip
    for item in items:
        if item.path.parent == Path(__file__).parent:
            reasons = [why for name, why in lacking.items() if name in getattr(item, "fixturenames", ())]
            if reasons:
                item.add_marker(pytest.mark.skip("; ".join(reasons)))


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

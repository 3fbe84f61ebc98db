"""The stack, up once for all tests of a module, and gone before the next one's."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parent))
from compose_stack import Stack
from docker_engine import ROOT, docker, image, missing, third_party
from support.left_out import leave_out


@pytest.hookimpl(trylast=True)  # after -m and -k
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what lacks an engine."""
    leave_out(config, items, Path(__file__).parent, missing(), "stack")


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The reference project with six months of flights on the whole stack; its data go at the end."""
    folder = tmp_path_factory.mktemp("compose")
    sys.path.insert(0, str(ROOT))  # reduced_flights takes the deliveries from the demo
    reduced = runpy.run_path(str(ROOT / "tests" / "loop" / "test_loop_reduced.py"))["reduced_flights"]
    stack = Stack(folder, reduced(folder / "project"))
    print()
    for name in ("platform", "jobs", "serving"):
        print(f"image {image(name)}: built here")
    with ThreadPoolExecutor() as pool:
        list(pool.map(third_party, third_party_tags()))
    stack.down("--data")
    try:
        print(f"compose up from nothing: {stack.up():.0f} s")
        yield stack
    finally:
        if folder_logs := stack.logs():
            (folder / "last.log").write_text(folder_logs)
        stack.down("--data")
        left = docker("ps", "--all", "--quiet", "--filter", f"label=com.docker.compose.project={stack.name}").stdout
        assert not left.strip()


def third_party_tags() -> list[str]:
    """The images that .env.example names and Millrace does not make."""
    lines = (ROOT / ".env.example").read_text().splitlines()
    names = ("POSTGRES_IMAGE=", "REDIS_IMAGE=", "S3_IMAGE=")
    found = [line.partition("=")[2] for line in lines if line.startswith(names)]
    assert len(found) == len([s for s in yaml.safe_load((ROOT / "docker-compose.yaml").read_text())["services"]
                              if s in ("postgres", "redis", "s3")])  # fmt: skip
    return found

"""A served pipeline, and a server in this process that is asked over ASGI."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.served import Served

from millrace.serving.access import Access
from millrace.serving.server import Server, ServerOptions


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Served:
    return Served.make(tmp_path_factory.mktemp("served") / "p")


@pytest.fixture
def served(made: Served, tmp_path: Path) -> Served:
    """A copy for one test."""
    shutil.copytree(made.root, tmp_path / "p")
    return Served(tmp_path / "p", made.views)


@pytest.fixture(scope="module")
def planned(made: Served, tmp_path_factory: pytest.TempPathFactory) -> Served:
    """A copy whose champion serves, for tests that change nothing."""
    root = tmp_path_factory.mktemp("planned") / "p"
    shutil.copytree(made.root, root)
    copied = Served(root, made.views)
    copied.plan()
    return copied


@dataclass
class Asking:
    """A server that runs, and a client of it."""

    server: Server
    client: httpx.AsyncClient

    async def predict(self, body: Any, pipeline: str = "trips", **headers: str) -> httpx.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.client.post(f"/predict/{pipeline}", json=body, headers=named)

    async def vehicles(self, *numbers: int, **headers: str) -> httpx.Response:
        return await self.predict({"entities": [{"vehicle": f"v{n}"} for n in numbers]}, **headers)


@asynccontextmanager
async def asking(served: Served, **options: Any) -> AsyncIterator[Asking]:
    """A server over a served pipeline, begun and ended as uvicorn does it."""
    given = {"store": served.store, "online": served.online, "log": served.root / "log", "name": "here", **options}
    server = Server(ServerOptions(**given), Access())
    server.follower.look()
    said: asyncio.Queue[Any] = asyncio.Queue()
    heard: asyncio.Queue[Any] = asyncio.Queue()
    running = asyncio.create_task(server.app({"type": "lifespan"}, said.get, heard.put))
    await said.put({"type": "lifespan.startup"})
    begun = await heard.get()
    assert begun["type"] == "lifespan.startup.complete", begun
    try:
        transport = httpx.ASGITransport(server.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost", timeout=30) as client:
            yield Asking(server, client)
    finally:
        await said.put({"type": "lifespan.shutdown"})
        await running

"""Server: what one process of `millrace serve` is made of, and what its event loop begins and ends with."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field, model_validator

from millrace.core.errors import SpecError
from millrace.online.reader import Reader, open_reader
from millrace.serving.access import Access
from millrace.serving.answering import Answerer, Shadows
from millrace.serving.app import App
from millrace.serving.commits import Commits
from millrace.serving.following import Follower
from millrace.serving.guarding import Guarding
from millrace.serving.log import Log
from millrace.serving.versions import Versions
from millrace.serving.workers import Tls
from millrace.spec.serving import Durability
from millrace.store import ObjectStore, open_store
from millrace.store.plans import Plans

if TYPE_CHECKING:
    from millrace.serving.grpc_server import GrpcServer

log = logging.getLogger(__name__)
SEGMENT_S = 60.0
"""After which a segment of the log is closed, and shipped, seconds."""
POLL_S = 1.0
"""How often the store is looked at for plans and vetoes, seconds."""


class ServerOptions(BaseModel):
    """What a server is told; the rest is in the plans of its pipelines."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    store: str = Field(description="Folder or s3://bucket/prefix.")
    online: str = Field(default="", description="Address of the online store; empty: no features are read.")
    online_timeout_s: float = Field(default=0.5, gt=0, description="After which an online read has failed.")
    log: Path = Field(description="Folder of the prediction log.")
    durable: bool = Field(
        default=True, description="An answer is on the disk before it is given, where the pipeline's spec says so."
    )
    memory: int = Field(default=1 << 30, ge=1 << 20, description="Bytes for loaded models, of each process.")
    only: tuple[str, ...] = Field(default=(), description="Pipelines that are served; empty: all that have a plan.")
    apart: tuple[str, ...] = Field(default=(), description="Pipelines that have a server of their own.")
    code: bool = Field(
        default=False, description="Whether models with code of their own are opened, of the one pipeline in `only`."
    )
    name: str = Field(default_factory=socket.gethostname, description="Of this server among its replicas.")

    @model_validator(mode="after")
    def _alone(self) -> ServerOptions:
        if self.code and len(self.only) != 1:
            raise SpecError(
                "a server that executes code of a pipeline serves that pipeline alone", where="--code",
                given=f"{len(self.only)} pipelines by --only", allowed="one",
                next_step="Start a server for each: --code --only NAME, and the shared one with --except NAME",
            )  # fmt: skip
        return self


@dataclass(frozen=True)
class GrpcAddress:
    """Where gRPC is answered."""

    host: str
    port: int
    tls: Tls | None = None


class Server:
    """One process: its models and plans, which a parent may have loaded before it forked, and its event loop's own."""

    def __init__(self, options: ServerOptions, access: Access, objects: ObjectStore | None = None) -> None:
        self.options = options
        objects = objects or open_store(options.store)
        self.versions = Versions(objects, most=options.memory, code=options.code)
        self.follower = Follower(objects, self.versions, only=options.only, apart=options.apart)
        self.app = App(self.follower, access, self.begin, self.end)
        self.worker = 0
        self.shadows: Shadows | None = None
        self.grpc: GrpcAddress | None = None
        self._grpc: GrpcServer | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._reader: Reader | None = None
        self._logs: list[Log] = []

    @property
    def name(self) -> str:
        """Of this process among all that serve."""
        return f"{self.options.name}-{self.worker}"

    async def begin(self) -> Answerer:
        """Open what belongs to this process, and follow the plans from now on."""
        options = self.options
        # a client of the store must not be carried over a fork
        self.versions.objects = objects = open_store(options.store)
        self.follower.plans = Plans(objects)
        buffered = Log(options.log / f"{self.worker}-buffered", durable=False, segment_seconds=SEGMENT_S)
        durable = Log(options.log / str(self.worker), segment_seconds=SEGMENT_S) if options.durable else buffered
        self._logs = list({buffered, durable})
        if options.online:
            self._reader = open_reader(options.online, timeout_s=options.online_timeout_s)
        await asyncio.to_thread(self.follower.look)
        guarding = Guarding(self.follower, self.name)
        self._tasks = [asyncio.create_task(self._follow()), asyncio.create_task(_kept(guarding.run, "guards"))]
        commits: dict[Durability, Commits] = {"buffered": Commits(buffered), "durable": Commits(durable)}
        answerer = Answerer(self.versions, self._reader, commits, server=self.name, shadows=self.shadows)
        if self.grpc is not None:
            from millrace.serving.grpc_server import GrpcServer  # only here: gRPC must not be carried over a fork

            self.app.inference.answerer = answerer
            self._grpc = GrpcServer(self.app.inference, self.grpc.host, self.grpc.port, self.grpc.tls)
            await self._grpc.start()
        return answerer

    async def end(self) -> None:
        """Close it again, once no request is under way."""
        if self._grpc is not None:
            await self._grpc.stop()
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with suppress(asyncio.CancelledError):
                await task
        if self._reader is not None:
            await self._reader.close()
        for each in self._logs:
            await asyncio.to_thread(each.close)

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(POLL_S)
            await asyncio.to_thread(self.follower.look)


async def _kept(run: Callable[[], Awaitable[None]], what: str) -> None:
    """Run for ever; what fails is told, and goes on."""
    while True:
        try:
            await run()
        except Exception:
            log.exception("the %s failed, and begin again", what)
            await asyncio.sleep(1)

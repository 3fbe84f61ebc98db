"""`millrace serve`: the processes of one server, and what its parent does when a model brings one of them down."""

from __future__ import annotations

import importlib.util
import logging
import signal
import socket
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from time import monotonic
from typing import Any

from millrace.core.errors import MillraceError, SpecError
from millrace.serving.access import Access
from millrace.serving.log import Log
from millrace.serving.server import POLL_S, SEGMENT_S, GrpcAddress, Server, ServerOptions
from millrace.serving.shadow import ShadowHandler
from millrace.serving.shadowing import ShadowChannel, ShadowClient, ShadowProcess
from millrace.serving.shipping import ship
from millrace.serving.slots import BEAT_S, Slot
from millrace.serving.supervision import Ended, How, Process
from millrace.serving.workers import Tls, Workers, reserve
from millrace.store import open_store
from millrace.store.plans import Arm, Plans, TrafficPlan, Veto

log = logging.getLogger(__name__)
SHIP_S = 5.0
"""How often closed segments are looked for, seconds."""
SHIP_HANG_S = 600.0
AGAIN, WITHIN_S = 3, 60.0
"""A version beside which nobody answers is stopped when it has brought down so many processes within such a time."""


def serve(
    options: ServerOptions,
    access: Access,
    *,
    host: str = "127.0.0.1",
    port: int = 8800,
    grpc_port: int | None = None,
    workers: int = 1,
    tls: Tls | None = None,
    drain_s: float = 30.0,
    hang_s: float = 5.0,
    shadow_hang_s: float = 30.0,
    ready: Callable[[str], None] = lambda address: None,
) -> None:
    """Serve until asked to leave. `ready` is told each address once requests are answered. `grpc_port`: where gRPC is
    answered too, 0 for any free port.

    Raises SpecError where others could reach a server that asks nobody who they are, and whatever keeps it from
    starting.
    """
    access.check_host(host)
    server = Server(options, access)
    kept = _reserve_grpc(server, host, grpc_port, tls)
    server.follower.look()  # models that are loaded before the fork are one copy in memory
    channel = ShadowChannel()
    shipping = Process("shipping", partial(_ship, options), vital=False, hang_s=SHIP_HANG_S)
    processes = Workers(
        partial(_worker, server, channel),
        count=workers, host=host, port=port, tls=tls, drain_s=drain_s, hang_s=hang_s, blame=Blame(server),
        beside=[ShadowProcess(channel, partial(_shadow, server), hang_s=shadow_hang_s).process, shipping],
        ready=lambda: _told(ready, processes.address, server.grpc, tls),
    )  # fmt: skip
    try:
        processes.run()
    finally:
        if kept is not None:
            kept.close()


def _reserve_grpc(server: Server, host: str, port: int | None, tls: Tls | None) -> socket.socket | None:
    """Tell a server where gRPC is answered. Gives the socket that keeps the address for its processes."""
    if port is None:
        return None
    if not (_installed("grpc") and _installed("google.protobuf")):
        raise SpecError("gRPC is not installed here", where="--grpc-port", next_step="Install millrace[serving-grpc]")
    if tls is not None and tls.password is not None:
        raise SpecError("gRPC reads no key with a password", where=str(tls.key), next_step="Give it without one")
    kept = reserve(host, port)
    bound, number = kept.getsockname()[:2]
    server.grpc = GrpcAddress(bound, number, tls)
    return kept


def _installed(name: str) -> bool:
    """Looked up and not imported: a process that was forked with gRPC in it could not use it."""
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # the package that it is in
        return False


def _told(ready: Callable[[str], None], http: tuple[str, int], grpc: GrpcAddress | None, tls: Tls | None) -> None:
    s = "s" if tls else ""
    ready(f"http{s}://{_shown(http)}")
    if grpc is not None:
        ready(f"grpc{s}://{_shown((grpc.host, grpc.port))}")


class Blame:
    """Vetoes the version that was predicting when a process crashed or hung, where another can answer instead; and
    where none can, once it keeps doing so: one pipeline without an answer is better than a server that ends.
    """

    def __init__(self, server: Server, clock: Callable[[], float] = monotonic) -> None:
        self._server, self._clock = server, clock
        self._ends: dict[str, list[float]] = {}

    def __call__(self, digest: bytes | None, how: How, ended: Ended) -> None:
        """Called by the parent; see `supervision.Blame`."""
        if digest is None:
            return
        follower, model = self._server.follower, f"sha256:{digest.hex()}"
        again = self._again(model)
        follower.look()
        for now in follower.all():
            plan = now.plan
            guilty = next((arm for arm in plan.versions if arm.model == model and arm.version not in now.vetoed), None)
            if guilty is None or not (again or (plan.watched and _others(plan, guilty))):
                continue
            veto = Veto(
                pipeline=plan.pipeline, generation=plan.generation, version=guilty.version, guard=how,
                why=f"{ended} while it predicted", server=self._server.options.name,
                at=datetime.now(UTC).isoformat(),
            )  # fmt: skip
            log.error("%s version %s is stopped: %s", plan.pipeline, guilty.version, veto.why)
            try:
                follower.plans.veto(veto)
            except (MillraceError, OSError) as err:
                log.error("the veto cannot be written: %s", err)

    def _again(self, model: str) -> bool:
        now = self._clock()
        ends = [at for at in self._ends.get(model, []) if now - at < WITHIN_S]
        self._ends[model] = [*ends, now]
        return len(ends) + 1 >= AGAIN


def _others(plan: TrafficPlan, guilty: Arm) -> bool:
    """Whether somebody answers when a version does not."""
    return bool(plan.less(frozenset((guilty.version,))).arms)


def _worker(server: Server, channel: ShadowChannel, slot: Slot) -> Any:
    server.worker, server.shadows = slot.number, ShadowClient(channel)
    server.versions.predicting = slot.predicting
    return server.app


def _shadow(server: Server, slot: Slot) -> ShadowHandler:
    options = server.options
    objects = open_store(options.store)  # a client of the store must not be carried over a fork
    server.versions.objects = objects
    server.versions.predicting = slot.predicting
    server.follower.plans = Plans(objects)
    server.follower.look()
    written = Log(options.log / "shadow", durable=False, segment_seconds=SEGMENT_S)
    return ShadowHandler(server.follower, server.versions, written, server=f"{options.name}-shadow", every_s=POLL_S)


def _ship(options: ServerOptions, slot: Slot) -> None:
    """Bring closed segments of the log into the store, and the last of them once the workers have left."""
    asked: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: asked.append(number))
    objects, told, due = open_store(options.store), None, 0.0
    while True:
        slot.beat()
        if (left := bool(asked)) or time.monotonic() >= due:
            due = time.monotonic() + SHIP_S
            shipped = ship(options.log, objects, options.name, left_for=0.0 if left else 60.0)
            if shipped.away != told:
                told = shipped.away
                log.warning("the log is not shipped: %s", told) if told else log.warning("the log is shipped again")
        if left:
            return
        time.sleep(BEAT_S)


def _shown(address: tuple[str, int]) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

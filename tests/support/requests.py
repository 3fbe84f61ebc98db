"""JobRequests for tests: one place that knows how an Identity is made."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from millrace.contract import Artifact, Identity, Input, JobRequest, Means, Place, Run, Service, code_digest

Given = tuple[str, Artifact] | tuple[str, Artifact, str | None]
"""Role, Artifact, and the partition where it is of one."""


def digest_of(letter: str) -> str:
    """A well-formed digest that stands for nothing."""
    return "sha256:" + (letter * 64)[:64]


def request(
    job: str,
    *,
    store: str | Path = "store",
    spec_digest: str = digest_of("5"),
    scope: Iterable[str] = (),
    inputs: Iterable[Given] = (),
    params: dict[str, Any] | None = None,
    seed: int = 0,
    threads: int = 2,
    services: dict[str, str] | None = None,
    run: Run | None = None,
    result: str | None = None,
    checkpoint: str | None = None,
    code: str | None = None,
    **means: Any,
) -> JobRequest:
    """A request as a task would send it. `services` are name -> address; `means` are the other fields of Means."""
    given = [(role, artifact, partition[0] if partition else None) for role, artifact, *partition in inputs]
    return JobRequest(
        identity=Identity(
            job=job,
            params=params or {},
            inputs=tuple(Input(role=r, kind=a.kind, digest=a.digest, partition=p) for r, a, p in given),
            scope=tuple(scope),
            spec_digest=spec_digest,
            code_digest=code or code_digest(),
            seed=seed,
            threads=threads,
        ),
        place=Place(
            store=str(store), inputs={a.digest: a.uri for _, a, _ in given}, result=result, checkpoint=checkpoint
        ),
        run=run or Run(),
        means=Means(services={name: Service(uri=uri) for name, uri in (services or {}).items()}, **means),
    )

"""Quarantines of models, by their digest: whatever version is made of one is not promoted while it lasts."""

from __future__ import annotations

from sqlalchemy import Connection

from millrace.core.errors import LedgerError
from millrace.ledger import chain
from millrace.ledger.events import Quarantined, Registered


def of(connection: Connection, pipeline: str, model: str) -> Quarantined | None:
    """The quarantine that a model is in, None where it is in none."""
    found = chain.state(connection, Quarantined, pipeline, model.removeprefix("sha256:"))
    return None if found is None or found.released else found


def check(connection: Connection, pipeline: str, version: int, model: str | None = None) -> None:
    """Raise LedgerError for a version whose model, given or as it was registered, is in quarantine."""
    if model is None:
        registered = chain.state(connection, Registered, pipeline, f"v{version}")
        model = registered.model.digest if registered is not None else None
    found = of(connection, pipeline, model) if model is not None else None
    if found is not None:
        raise LedgerError(
            f"{pipeline} version {version} cannot be released: {words(found)}",
            next_step=f"Train another model; or, if it is to be believed after all, say 'millrace reinstate {pipeline} "
            f"{found.version} --reason ..'",
        )


def words(found: Quarantined) -> str:
    """Why a model is in quarantine, for a person."""
    return (
        f"its model {found.model[:19]} is that of version {found.version}, which was rolled back by {found.by} and "
        f"is in quarantine: {found.why}"
    )


def release(connection: Connection, pipeline: str, version: int, *, by: str, reason: str) -> None:
    """Let the model of a version out of quarantine; nothing where it is in none."""
    registered = chain.state(connection, Registered, pipeline, f"v{version}")
    found = of(connection, pipeline, registered.model.digest) if registered is not None else None
    if found is not None:
        chain.append(connection, found.model_copy(update={"released": True, "by": by, "why": reason, "how": "person"}))

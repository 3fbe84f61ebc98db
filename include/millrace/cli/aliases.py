"""`millrace aliases`: MLflow's aliases of one pipeline against the ledger."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from millrace.cli.erasure import evidence_of
from millrace.core.errors import MillraceError
from millrace.ledger import Ledger, may_be_challenger
from millrace.store import ObjectStore

if TYPE_CHECKING:
    from millrace.mlflow.aliases import Strayed
    from millrace.mlflow.keeping import Endangered


def look(
    ledger: Ledger, objects: ObjectStore, mlflow: str, pipeline: str, *, revert: bool
) -> list[Strayed | Endangered]:
    """Aliases that name another version than they should, and runs that must stay and were deleted; `revert`: set right
    before this returns, but for runs that are gone.

    A release that comes meanwhile sets them after the ledger, so what strayed is looked at again before it is believed.
    Raises Unavailable, and MillraceError where the champion is not in MLflow at all.
    """
    from millrace.mlflow import aliases, keeping
    from millrace.mlflow.registry import alias_versions, find_versions
    from millrace.mlflow.runs import connect, reaching

    client = connect(mlflow)
    with reaching(mlflow):
        wrong: list[Strayed] = []
        for attempt in range(2):
            registered = [int(version.version) for version in find_versions(client, pipeline, {})]
            champion, lives = ledger.champion(pipeline), ledger.lives(pipeline)
            known = max((life.version for life in lives), default=0)
            challengers = may_be_challenger(lives, champion.version if champion else 0)
            challengers |= {version for version in registered if version > known}  # one that is just being registered
            found = aliases.strayed(
                alias_versions(client, pipeline) if registered else {},
                champion.version if champion else None,
                challengers,
            )
            wrong = [each for each in found if attempt == 0 or each in wrong]
            if not wrong:
                break
        at_risk = keeping.endangered(client, _runs(ledger, objects, pipeline, registered))
        if revert:
            for each in wrong:
                if each.should is not None and each.should not in registered:
                    raise MillraceError(f"MLflow has no version {each.should} of {pipeline}, which is champion",
                                        given=sorted(registered), next_step="Restore MLflow's database")  # fmt: skip
            aliases.revert(client, pipeline, wrong)
            keeping.restore(client, at_risk)
        return [*wrong, *at_risk]


def _runs(ledger: Ledger, objects: ObjectStore, pipeline: str, registered: Collection[int]) -> dict[int, str]:
    """Version -> the run that its Evidence names; not of what was retired and has left MLflow."""
    retired = {life.version for life in ledger.lives(pipeline) if life.state == "retired"}
    found = {}
    for version in ledger.versions(pipeline):
        evidence = evidence_of(objects, version) if version.version in registered or version.version not in retired \
            else None  # fmt: skip
        if evidence is not None and evidence.mlflow_run:
            found[version.version] = evidence.mlflow_run
    return found

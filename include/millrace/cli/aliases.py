"""`millrace aliases`: MLflow's aliases of one pipeline against the ledger."""

from __future__ import annotations

from typing import TYPE_CHECKING

from millrace.core.errors import MillraceError
from millrace.ledger import Ledger, Life

if TYPE_CHECKING:
    from millrace.mlflow.aliases import Strayed


def look(ledger: Ledger, mlflow: str, pipeline: str, *, revert: bool) -> list[Strayed]:
    """Aliases that name another version than they should; `revert`: set right before this returns.

    A release that comes meanwhile sets them after the ledger, so what strayed is looked at again before it is believed.
    Raises Unavailable, and MillraceError where the champion is not in MLflow at all.
    """
    from millrace.mlflow import aliases
    from millrace.mlflow.registry import alias_versions, find_versions
    from millrace.mlflow.runs import connect, reaching

    client = connect(mlflow)
    with reaching(mlflow):
        wrong: list[Strayed] = []
        for attempt in range(2):
            registered = [int(version.version) for version in find_versions(client, pipeline, {})]
            champion, lives = ledger.champion(pipeline), ledger.lives(pipeline)
            challengers = may_be_challenger(lives, champion.version if champion else 0, registered)
            found = aliases.strayed(
                alias_versions(client, pipeline) if registered else {},
                champion.version if champion else None,
                challengers,
            )
            wrong = [each for each in found if attempt == 0 or each in wrong]
            if not wrong:
                return []
        if revert:
            for each in wrong:
                if each.should is not None and each.should not in registered:
                    raise MillraceError(f"MLflow has no version {each.should} of {pipeline}, which is champion",
                                        given=sorted(registered), next_step="Restore MLflow's database")  # fmt: skip
            aliases.revert(client, pipeline, wrong)
        return wrong


def may_be_challenger(lives: list[Life], champion: int, registered: list[int]) -> set[int]:
    """Versions that the alias `challenger` may name: asked for, or newer than the champion and not turned down. One
    that MLflow has and the ledger has not yet is just being registered."""
    known = {life.version for life in lives}
    waiting = {
        life.version
        for life in lives
        if life.state == "challenger" or (life.state == "candidate" and life.version > champion and not life.ended)
    }
    return waiting | {version for version in registered if version > max(known, default=0)}

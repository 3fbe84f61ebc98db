"""Model checks (`millrace.spec.evaluation`), a module each: what makes the verdict on a challenger.

Each check by itself: one that cannot be computed, or says nothing, fails, and hides nothing of the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from millrace.contract import Check
from millrace.core.errors import MillraceError
from millrace.evaluation.checks import duel, threshold
from millrace.evaluation.checks.subject import Judged, Subject
from millrace.spec.evaluation import DuelCheck, ModelCheck, ThresholdCheck

_RUN: dict[type, Callable[[Any, Subject], Judged]] = {ThresholdCheck: threshold.run, DuelCheck: duel.run}

__all__ = ["Judged", "Subject", "judge"]


def judge(asked: Iterable[ModelCheck], subject: Subject) -> Judged:
    """Make checks in order. Those that need a champion are left out where there is none: the others decide alone.

    Raises only what may go well when it is tried again: a verdict is kept for good.
    """
    made = [_run(check, subject) for check in asked if subject.champion is not None or not check.needs_champion]
    facts = {key: value for one in made for key, value in one.facts.items()}
    return Judged(tuple(check for one in made for check in one.checks), facts)


def _run(asked: ModelCheck, subject: Subject) -> Judged:
    try:
        made = _RUN[type(asked)](asked, subject)
    except (OSError, MemoryError):
        raise
    except Exception as err:
        if isinstance(err, MillraceError) and err.retry != "never":
            raise
        return _failed(asked, str(err) if isinstance(err, MillraceError) else type(err).__name__)  # may quote values
    return made if made.checks else _failed(asked, "it says nothing")


def _failed(asked: ModelCheck, why: str) -> Judged:
    return Judged((Check(name=asked.name, passed=False, message=f"{asked.type} could not be computed: {why}"),))

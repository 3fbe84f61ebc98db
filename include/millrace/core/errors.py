"""The error tree: one root, and the retry advice that every runner reads.

MillraceError
├── SpecError        a project, pipeline, environment, suite or SQL file is wrong
├── ContractError    a JobRequest or JobResult cannot be read
├── DataError        the data given are wrong (missing, empty, truncated, misnamed)
├── CodeError        a pipeline's own code failed, or gave what cannot be used
├── Crashed          a job's process ended without a word: native code failed, or memory ran out
├── TimedOut         a job ran longer than its time limit
├── VerdictFailed    a Gate or Duel said no (raised by Airflow tasks, never by jobs)
├── EvidenceError    a promotion was asked for without what it must rest on
├── LedgerError      the ledger's record does not hold together, or cannot take what was asked
├── StoreError       the object store said no
│   ├── NotFound     no such object, Snapshot or partition
│   ├── Conflict     compare-and-set lost
│   └── Corrupt      bytes do not match their digest
└── Unavailable      a service cannot be reached; trying again may help
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import ClassVar, Literal

Retry = Literal["never", "same", "larger", "resume", "wait"]


class MillraceError(Exception):
    """Root of all errors that Millrace raises on purpose.

    The message is plain text for a person: what happened, where, what was given, what is
    allowed, the nearest match and the next step. Parts not known are left out.
    """

    retry: ClassVar[Retry] = "never"

    def __init__(
        self,
        message: str,
        *,
        where: str | None = None,
        given: object | None = None,
        allowed: Iterable[object] | str | None = None,
        next_step: str | None = None,
    ) -> None:
        self.message = message
        self.where = where
        self.given = given
        self.allowed = allowed if isinstance(allowed, str) or allowed is None else [str(a) for a in allowed]
        self.next_step = next_step
        super().__init__(self._text())

    def _text(self) -> str:
        text = f"{self.where}: {self.message}" if self.where else self.message
        if self.given is not None:
            text += f" (given: {self.given!r})"
        if isinstance(self.allowed, str):
            text += f"; allowed: {self.allowed}"
        elif self.allowed is not None:
            text += f"; allowed: {', '.join(self.allowed) or 'nothing'}"
            if self.given is not None and (near := nearest(str(self.given), self.allowed)):
                text += f"; did you mean '{near}'?"
        if self.next_step:
            text += f". {self.next_step}"
        return text


def nearest(given: str, allowed: Iterable[str]) -> str | None:
    """Return the allowed word closest to `given`, or None when nothing is close.

    A word that `given` is the beginning or a part of comes before one that is merely spelt alike: for `temp` that is
    `temperature`, not `system`.
    """
    scored = [(_likeness(given.casefold(), word.casefold()), word) for word in allowed]
    best = max(scored, key=lambda pair: pair[0], default=(0.0, None))
    return best[1] if best[0] >= 0.6 else None


def _likeness(given: str, word: str) -> float:
    ratio = difflib.SequenceMatcher(None, word, given).ratio()
    if len(given) >= 3 and given in word:
        return ratio + (0.5 if word.startswith(given) else 0.3)
    return max(ratio, 0.6) if len(word) >= 3 and word in given else ratio


class SpecError(MillraceError):
    """A file that people write (project, pipeline, environment, suite, SQL, features) is wrong."""


class ContractError(MillraceError):
    """A JobRequest or JobResult is malformed, of a newer version, or not the one asked for."""


class DataError(MillraceError):
    """The data themselves are wrong; running again on the same bytes cannot help."""


class CodeError(MillraceError):
    """A pipeline's own code (trainer.py) raised an exception, or gave what cannot be kept or used."""


class Crashed(MillraceError):
    """The process of a job ended by a signal or without a result."""


class TimedOut(MillraceError):
    """A job was ended because its time limit was over."""


class VerdictFailed(MillraceError):
    """A Gate, evaluation or Duel ended with verdict fail."""


class EvidenceError(MillraceError):
    """A ModelVersion lacks what it must carry to be promoted, or carries something else."""


class LedgerError(MillraceError):
    """The ledger's record was changed or cut, or it was asked to record something that cannot be."""


class StoreError(MillraceError):
    """The object store refused or failed."""

    retry: ClassVar[Retry] = "same"


class NotFound(StoreError):
    """The object, Snapshot or partition does not exist."""

    retry: ClassVar[Retry] = "never"


class Conflict(StoreError):
    """A compare-and-set found another value than the expected one."""


class Corrupt(StoreError):
    """Stored bytes do not have the digest under which they are known."""

    retry: ClassVar[Retry] = "never"


class Unavailable(MillraceError):
    """A service (S3, MLflow, database) did not answer."""

    retry: ClassVar[Retry] = "same"

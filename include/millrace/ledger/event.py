"""Event: the typed body of a ledger's entry, and how every older form of it is read.

An event's version is one more than its `upgrades`; a body says under `event_version` which one it is, and one that
says nothing is of version 1, from before bodies had types. To change a kind's fields is to add the upgrade that makes
the new body of the old one: entries are never written again, so every upgrade stays for ever.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from millrace.contract.artifact import DIGEST_PATTERN
from millrace.core.errors import LedgerError

VERSION = "event_version"
Body = dict[str, Any]
Upgrade = Callable[[str, str, Body], Body]
"""The body of the next version, made of pipeline, subject and body of one."""
Digest = Annotated[str, Field(pattern=DIGEST_PATTERN)]
Text = Annotated[str, Field(min_length=1)]


class Event(BaseModel):
    """One fact about a pipeline. `subject` names what it is about within its kind."""

    # A number that is not finite is refused when it is written, never turned into null.
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")

    kind: ClassVar[str]
    upgrades: ClassVar[tuple[Upgrade, ...]] = ()
    pipeline: Text

    @property
    def subject(self) -> str:
        """What it is about: the newest entry of a subject is how things stand."""
        raise NotImplementedError

    def body(self) -> Body:
        """The entry's body; the pipeline is a column of its own."""
        return {VERSION: 1 + len(self.upgrades), **self.model_dump(mode="json", exclude={"pipeline"})}

    @classmethod
    def read(cls, pipeline: str, subject: str, body: Mapping[str, Any]) -> Self:
        """The event of an entry, whatever version wrote it.

        Raises LedgerError for a version that this Millrace does not know, and for a body that is none of this kind.
        """
        fields, what = dict(body), f"{cls.kind} {subject} of {pipeline}"
        number, newest = fields.pop(VERSION, 1), 1 + len(cls.upgrades)
        if not isinstance(number, int) or not 1 <= number <= newest:
            raise LedgerError(f"an entry ({what}) was written by another version of Millrace", given=number,
                              allowed=f"versions 1 to {newest}", next_step="Install that version here too")  # fmt: skip
        try:
            for upgrade in cls.upgrades[number - 1 :]:
                fields = upgrade(pipeline, subject, fields)
            return cls.model_validate({"pipeline": pipeline, **fields})
        except ValidationError as err:
            first = err.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise LedgerError(f"an entry ({what}) is not of its kind: {where}: {first['msg']}") from err
        except (KeyError, TypeError, ValueError, AttributeError) as err:
            raise LedgerError(f"an entry ({what}) is not of its kind: {err!r}") from err

"""What changed between two trainings: what the pipeline's folders say of it, compared part by part. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from millrace.core.canonical import digest
from millrace.spec import Bundle, PipelineSpec
from millrace.spec.recipe import Recipe, short

_NOT_OF_THE_MODEL = {"schedule"}
"""Of `training`: when it trains, which does not change what comes of it."""


@dataclass(frozen=True)
class Change:
    """One part that is not what it was. None: it is not there."""

    what: str
    before: str | None
    now: str | None

    def __str__(self) -> str:
        return f"{self.what} {self.before or 'none'} -> {self.now or 'none'}"


def changed(before: Bundle, now: Bundle, *, code: tuple[str, str]) -> list[Change] | None:
    """The parts of two folders by which a training would make another model of the same data; `code` are the digests
    of Millrace that trained and that would train.

    Owner, description, checks, monitoring and the like are none. None where the earlier folder is of a format that
    this Millrace cannot read.
    """
    try:
        old, new = parts(before), parts(now)
    except ValidationError:
        return None
    old["code of Millrace"], new["code of Millrace"] = (short(each) for each in code)
    return differing(old, new)


def differing(old: Mapping[str, str], new: Mapping[str, str]) -> list[Change]:
    """Where two mappings of names to text differ, in the order of names."""
    names = sorted({*old, *new})
    return [Change(name, old.get(name), new.get(name)) for name in names if old.get(name) != new.get(name)]


def parts(bundle: Bundle) -> dict[str, str]:
    """Name -> value of what a training goes by. Raises ValidationError for a spec that cannot be read."""
    spec = PipelineSpec.model_validate(bundle.spec)
    found = {
        "features (recipe)": short(Recipe.of(bundle).digest),
        "features.service": spec.features.service,
        "feature definitions": short(digest(bundle.features)),
        **{name: short(digest(text)) for name, text in bundle.code.items()},
    }
    if spec.label is not None:
        found |= dict(flat("label", spec.label.model_dump(mode="json")))
    if spec.training is not None:
        found |= dict(flat("training", spec.training.model_dump(mode="json", exclude=_NOT_OF_THE_MODEL)))
    return found


def flat(name: str, value: Any) -> Iterator[tuple[str, str]]:
    """A value as names with dots and text; nulls are left out."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from flat(f"{name}.{key}", inner)
    elif value is not None:
        yield name, str(value)

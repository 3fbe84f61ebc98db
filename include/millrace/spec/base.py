"""What all models of files share: frozen, no unknown keys, names of one form, mistakes that say where they are."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from millrace.core.errors import SpecError

NAME = r"^[a-z][a-z0-9_]{0,62}$"
NAME_IN_WORDS = "lower-case letters, digits and underscores, beginning with a letter, at most 63"
Name = Annotated[str, Field(pattern=NAME)]
Classification = Literal["public", "internal", "personal"]


class Model(BaseModel):
    """Base of every model of a file that people write."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Mistakes:
    """Collects what is wrong between the keys of a model, each at its key, and raises all at once.

    For validators that see the whole model: pydantic would put what they raise at the model's first line.
    """

    def __init__(self) -> None:
        self._mistakes: list[InitErrorDetails] = []

    def add(self, message: str, *loc: str | int, **parts: Any) -> None:
        """Note a mistake at `loc`, keys from the model down; `parts` are those of MillraceError."""
        text = str(SpecError(message, **parts))
        kind = PydanticCustomError("mistake", "{text}", {"text": text})
        self._mistakes.append(InitErrorDetails(type=kind, loc=loc, input=None))

    def done(self) -> None:
        """Raise ValidationError when anything was noted; inside a validator pydantic puts `loc` below the model's."""
        if self._mistakes:
            raise ValidationError.from_exception_data("spec", self._mistakes)

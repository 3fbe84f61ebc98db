"""On-demand features: computed from a row's features and from what a request carries, by a function of the pipeline.

The function is kept as text, as it stands in the pipeline's Feast file, and compiled where it is called: never as bytes
of code. It is called for one row at a time, in training, scoring and serving, with plain Python values, so that what it
gives cannot depend on which rows stand beside. Who may execute it is decided before: see `models.protocol.permit_code`.
"""

from __future__ import annotations

import math
import struct
import traceback
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

from millrace.core.errors import CodeError, DataError

ValueKind = Literal["INT32", "INT64", "FLOAT", "DOUBLE", "STRING", "BOOL"]
KINDS: tuple[str, ...] = get_args(ValueKind)
MADE_FROM = "made_from.{}"
"""Columns of a training set that on-demand features are made from and that are no features themselves."""
_FLOAT = struct.Struct("f")


class Typed(BaseModel):
    """A value that goes in or comes out."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    type: ValueKind = Field(description="Feast's value type.")
    view: str = Field(default="", description="Feature view that it is a feature of, of an input.")


class OnDemandView(BaseModel):
    """An on-demand feature view as one FeatureService uses it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(description="As the FeatureService calls it.")
    file: str = Field(description="Name that messages give the Feast file.")
    function: str
    line: int = Field(ge=1, description="Where the text stands in the file.")
    text: str = Field(description="The function without its decorators.")
    singleton: bool = Field(description="It takes values and gives values; otherwise lists of them, here of one.")
    inputs: tuple[Typed, ...] = Field(description="Features of other views.")
    request: tuple[Typed, ...] = Field(default=(), description="What a request carries beside join keys.")
    features: tuple[Typed, ...] = Field(min_length=1, description="What the FeatureService takes of it.")

    @cached_property
    def _called(self) -> Callable[[dict[str, Any]], Any]:
        with self._blamed():
            names: dict[str, Any] = {"__name__": f"millrace_on_demand_{self.function}"}
            exec(compile("\n" * (self.line - 1) + self.text, self.file, "exec", dont_inherit=True), names)
            found: Callable[[dict[str, Any]], Any] = names[self.function]
            return found

    def compute(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """The features of one row, None where one has no value; NaN among what goes in is None.

        Raises CodeError naming function and line for an exception in it and for what it gives that cannot be used,
        DataError for a value that goes in and is none of its type.
        """
        values = {each.name: self._given(each, row) for each in (*self.inputs, *self.request)}
        given = values if self.singleton else {name: [value] for name, value in values.items()}
        function = self._called
        with self._blamed():
            answer = function(given)
        if not isinstance(answer, dict):
            raise self._wrong("returned no dictionary", given=type(answer).__name__)
        return {each.name: self._usable(each, answer) for each in self.features}

    def _given(self, each: Typed, row: Mapping[str, Any]) -> Any:
        value = row[each.name]
        try:
            return plain(value, each.type)
        except (ValueError, TypeError, OverflowError):
            what = f"on-demand feature view '{self.name}' is given for '{each.name}' what is no {each.type}"
            raise DataError(what, where=each.name, given=type(value).__name__, allowed=allowed(each.type)) from None

    def _usable(self, wanted: Typed, answer: dict[Any, Any]) -> Any:
        if wanted.name not in answer:
            raise self._wrong(f"did not return '{wanted.name}'", allowed=[each.name for each in self.features])
        value = answer[wanted.name]
        if not self.singleton:
            if not isinstance(value, list) or len(value) != 1:
                raise self._wrong(f"returned for '{wanted.name}' no list as long as those it got",
                                  given=type(value).__name__, allowed="a list of 1")  # fmt: skip
            value = value[0]
        try:
            return plain(value, wanted.type)
        except (ValueError, TypeError, OverflowError):
            raise self._wrong(f"returned for '{wanted.name}' what is no {wanted.type}", given=type(value).__name__,
                              allowed=f"{WORDS[wanted.type]}, or None") from None  # fmt: skip

    def _blamed(self) -> _Blamed:
        return _Blamed(self)

    def _wrong(self, what: str, **parts: Any) -> CodeError:
        return CodeError(f"on-demand feature view '{self.name}': {self.function} {what}",
                         where=f"{self.file}:{self.line}", **parts)  # fmt: skip


class _Blamed:
    """An exception of a view's function becomes a CodeError that says where in the Feast file."""

    def __init__(self, view: OnDemandView) -> None:
        self.view = view

    def __enter__(self) -> None: ...

    def __exit__(self, kind: Any, err: BaseException | None, trace: Any) -> None:
        if not isinstance(err, Exception | SystemExit) or isinstance(err, MemoryError):
            return
        view = self.view
        lines = [frame.lineno for frame in traceback.extract_tb(trace) if frame.filename == view.file]
        # Not what the exception says: it may hold values of the row.
        raise CodeError(f"on-demand feature view '{view.name}': {view.function} raised {type(err).__name__}",
                        where=f"{view.file}:{lines[-1] if lines else view.line}",
                        next_step="A missing value is None; mend the function in the Feast file") from err  # fmt: skip


WORDS = {
    "INT32": "a whole number of 32 bits", "INT64": "a whole number of 64 bits", "FLOAT": "a finite number",
    "DOUBLE": "a finite number", "STRING": "text", "BOOL": "True or False",
}  # fmt: skip


def allowed(kind: ValueKind) -> str:
    """What a value of a type may be, as a message says it."""
    return f"{WORDS[kind]}, or null"


def plain(value: Any, kind: ValueKind) -> Any:
    """The value as its type has it. Raises ValueError, TypeError, OverflowError for one that it cannot have."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if kind in ("STRING", "BOOL"):
        if not isinstance(value, str if kind == "STRING" else bool):
            raise TypeError
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError
    if kind in ("INT32", "INT64"):
        bits = int(kind[3:])
        if (whole := int(value)) != value or not -(2 ** (bits - 1)) <= whole < 2 ** (bits - 1):
            raise ValueError
        return whole
    found = float(value)
    if math.isinf(found):
        raise ValueError
    return _FLOAT.unpack(_FLOAT.pack(found))[0] if kind == "FLOAT" else found


def computed(views: Sequence[OnDemandView], row: Mapping[str, Any]) -> dict[str, Any]:
    """The features of all views for one row. Raises CodeError."""
    return {name: value for view in views for name, value in view.compute(row).items()}


def request_fields(views: Sequence[OnDemandView]) -> tuple[Typed, ...]:
    """What a request carries for these views beside join keys, each once."""
    return tuple({each.name: each for view in views for each in view.request}.values())


def made_from(views: Sequence[OnDemandView]) -> tuple[Typed, ...]:
    """All that goes into these views, each once."""
    return tuple({each.name: each for view in views for each in (*view.inputs, *view.request)}.values())

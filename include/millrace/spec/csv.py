"""How a source's csv is written, where it is not written as RFC 4180 says."""

from __future__ import annotations

import codecs
from typing import Literal

from pydantic import Field, model_validator

from millrace.spec.base import Mistakes, Model

NONE = "none"


class Csv(Model):
    """The form of a csv file. The defaults are RFC 4180 in UTF-8; what is written otherwise is refused, not guessed."""

    delimiter: str = Field(default=",", description='One character between values; a tab is "\\t" in double quotes.')
    quote: str = Field(
        default='"',
        description="Around a value that holds delimiters, line ends or quotes, which are doubled in it; none: nothing "
        "is quoted, and this character is like any other.",
    )
    escape: str = Field(
        default=NONE, description="Takes the special meaning from the quote, delimiter, line end or escape after it."
    )
    null_values: tuple[str, ...] = Field(
        default=("",), description="What stands for an absent value where it is not quoted; '' is the empty field."
    )
    decimal: Literal[".", ","] = Field(default=".", description="Between the whole and the fraction of a number.")
    encoding: str = Field(default="utf-8", description="As Python names it, such as utf-16, latin-1 or windows-1252.")
    header_case: Literal["exact", "ignore"] = Field(
        default="exact", description="ignore: the header's names may be in other upper and lower case than `columns`."
    )

    @model_validator(mode="after")
    def _consistent(self) -> Csv:
        wrong = Mistakes()
        used: dict[str, str] = {}
        for key in ("delimiter", "quote", "escape"):
            given = getattr(self, key)
            if given == NONE and key != "delimiter":
                continue
            if len(given) != 1 or not given.isascii() or given.isalnum() or given in "\r\n\0":
                tab = r'a tab is written "\t", in double quotes' if given in (r"\t", "tab") else None
                wrong.add("must be one ASCII character, no letter, digit or line end", key, given=given, next_step=tab)
            elif given in used:
                hint = (
                    "A quote that stands for itself is doubled already: leave escape out" if key == "escape" else None
                )
                wrong.add(f"is the same as {used[given]}", key, given=given, next_step=hint)
            used.setdefault(given, key)
        if not _is_text_encoding(self.encoding):
            wrong.add("no text encoding of this name", "encoding", given=self.encoding,
                      allowed=["utf-8", "utf-16", "latin-1", "windows-1252"])  # fmt: skip
        wrong.done()
        return self


def _is_text_encoding(name: str) -> bool:
    """Whether a codec makes text of any bytes, piece by piece; some that Python calls text are for names or code."""
    try:
        codec = codecs.lookup(name)
    except (LookupError, ValueError):
        return False
    if codec.name in ("idna", "punycode", "undefined") or "escape" in codec.name:
        return False
    return bool(codec._is_text_encoding) and codec.incrementaldecoder is not None

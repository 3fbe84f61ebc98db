"""Where the records of a csv begin and end: a strict reading of its quotes, escapes and line ends, told by numpy.

Arrow's reader takes what breaks the rules as if it were part of a value, and loses bytes where a block ends inside of
one (github.com/apache/arrow/issues/51368). So a file is cut here, at ends of records alone, and what breaks the rules
is named before Arrow sees it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from millrace.spec.csv import NONE, Csv

LF, CR = 10, 13
_NOWHERE = np.empty(0, np.int64)


@dataclass(frozen=True)
class Flaw:
    """The first place where a block breaks the rules, and the words for it; never what stands there."""

    place: int
    message: str
    next_step: str | None = None


@dataclass(frozen=True)
class Block:
    """Bytes (UTF-8) that begin with a record. `quotes`, in turn opening and closing, and `escaped` are places in it."""

    data: bytes
    form: Csv
    quotes: np.ndarray = field(default_factory=lambda: _NOWHERE)
    escaped: np.ndarray = field(default_factory=lambda: _NOWHERE)
    """Places of the bytes that an escape stands before; the escapes themselves are the bytes before these."""

    @classmethod
    def of(cls, data: bytes, form: Csv) -> Block:
        """Look for quotes and escapes."""
        escaped = _escaped(data, form.escape)
        quotes = _places(data, form.quote)
        return cls(data, form, quotes[~np.isin(quotes, escaped)] if escaped.size else quotes, escaped)

    def end(self, before: int, last: bool = False) -> int:
        """Where the last record that ends at or before a place ends; 0 where none does.

        At the end of a block that is not the `last` of its file, CR may be the first half of CR LF.
        """
        while True:
            end = max(self.data.rfind(b"\n", 0, before), self.data.rfind(b"\r", 0, before))
            if end < 0:
                return 0
            opened = int(np.searchsorted(self.quotes, end))
            if opened % 2:
                before = int(self.quotes[opened - 1])
            elif (end in self.escaped) or (self.data[end] == CR and end + 1 == len(self.data) and not last):
                before = end
            else:
                return end + 1

    def after(self, start: int) -> int:
        """Where the line that begins at a place, and may be empty, is over."""
        place = start
        while True:
            found = [end for end in (self.data.find(b"\n", place), self.data.find(b"\r", place)) if end >= 0]
            if not found:
                return len(self.data)
            place = min(found) + 1
            opened = int(np.searchsorted(self.quotes, place - 1))
            if opened % 2:
                place = int(self.quotes[opened]) if opened < len(self.quotes) else len(self.data)
            elif place - 1 not in self.escaped:
                return place + self.data.startswith(b"\r\n", place - 1)

    def flaw(self, last: bool, by_cr: bool = False) -> Flaw | None:
        """The first thing that breaks the rules; what the bytes after this block decide is left open.

        `by_cr` says that CR alone ends the file's lines, as on old Macs, and not LF or CR LF.
        """
        found = [self._escape(last), self._opening(), self._closing(), self._line_end(last, by_cr)]
        if last and len(self.quotes) % 2:
            found.append(Flaw(int(self.quotes[-1]), "a quote that opens in this line is never closed",
                              self._backslash(len(self.data))))  # fmt: skip
        return min((flaw for flaw in found if flaw), key=lambda flaw: flaw.place, default=None)

    def records(self) -> tuple[np.ndarray, np.ndarray]:
        """Where each record begins, and where it ends before its line end; empty lines are none."""
        data = np.frombuffer(self.data, np.uint8)
        ends = self._outside(np.flatnonzero((data == LF) | (data == CR)))
        starts, stops = np.concatenate(([0], ends + 1)), np.concatenate((ends, [len(data)]))
        some = stops > starts  # both of CR LF are line ends here, with nothing between them
        return starts[some], stops[some]

    def widths(self) -> np.ndarray:
        """How many fields each record has."""
        starts, stops = self.records()
        delimiters = self._outside(_places(self.data, self.form.delimiter))
        return np.searchsorted(delimiters, stops) - np.searchsorted(delimiters, starts) + 1

    def lines(self, before: int) -> int:
        """How many lines end before a place."""
        part = self.data[:before]
        lone = part.count(b"\r") - part.count(b"\r\n") if b"\r" in part else 0
        return part.count(b"\n") + lone

    def _outside(self, places: np.ndarray) -> np.ndarray:
        outside = places[np.searchsorted(self.quotes, places) % 2 == 0]
        return outside[~np.isin(outside, self.escaped)] if self.escaped.size else outside

    def _separates(self) -> np.ndarray:
        table = np.zeros(256, bool)
        table[[ord(self.form.delimiter), LF, CR]] = True
        return table

    def _doubled(self) -> np.ndarray:
        """Which opening quotes stand right after a closing one: inside a value the two are one quote."""
        opening, closing = self.quotes[0::2], self.quotes[1::2]
        doubled = np.zeros(len(opening), bool)
        doubled[1:] = opening[1:] == closing[: len(opening) - 1] + 1
        return doubled

    def _opening(self) -> Flaw | None:
        """A quote that opens after part of a value, or after an escaped separator."""
        opening = self.quotes[0::2]
        before = opening - 1
        fine = self._separates()[np.frombuffer(self.data, np.uint8)[before]]
        if self.escaped.size:
            fine &= ~np.isin(before, self.escaped)
        bad = opening[~(fine | self._doubled() | (opening == 0))]
        if not bad.size:
            return None
        hint = self._backslash(int(bad[0]) + 1) or f"If no value of this source is quoted, set csv.quote: {NONE}"
        return Flaw(int(bad[0]), "a quote stands inside a value that does not begin with one", hint)

    def _closing(self) -> Flaw | None:
        """A quote that closes before more of the value; named by where it opened."""
        closing = self.quotes[1::2]
        decided = closing[closing + 1 < len(self.data)]
        fine = self._separates()[np.frombuffer(self.data, np.uint8)[decided + 1]]
        doubled = self._doubled()[1:][: len(decided)]
        fine[: len(doubled)] |= doubled
        bad = np.flatnonzero(~fine)
        if not bad.size:
            return None
        hint = self._backslash(int(decided[bad[0]]) + 1)
        return Flaw(int(self.quotes[2 * bad[0]]), "a quote stands where none may",
                    hint or "Look for a quote that is never closed; inside quotes they are doubled")  # fmt: skip

    def _line_end(self, last: bool, by_cr: bool) -> Flaw | None:
        """A line end of the other kind outside of quotes: whether a line ends there is anybody's guess."""
        if (b"\n" if by_cr else b"\r") not in self.data:
            return None
        data = np.frombuffer(self.data, np.uint8)
        places = np.flatnonzero(data == (LF if by_cr else CR))
        if not by_cr:
            after = np.append(data[1:], CR if last else LF)[places]  # the last CR may be half of CR LF
            places = places[after != LF]
        places = self._outside(places)
        if not places.size:
            return None
        message = f"{'LF' if by_cr else 'CR'} stands alone in a file whose lines end with {'CR' if by_cr else 'LF'}"
        return Flaw(int(places[0]), message, "A value that holds a line end needs quotes around it")

    def _escape(self, last: bool) -> Flaw | None:
        """An escape before what has no special meaning: whether it belongs to the value is anybody's guess."""
        table = self._separates()
        table[[ord(c) for c in (self.form.quote, self.form.escape) if c != NONE]] = True
        if last and self.escaped.size and self.escaped[-1] == len(self.data):
            return Flaw(len(self.data) - 1, "the file ends with an escape")
        places = self.escaped[self.escaped < len(self.data)]
        bad = places[~table[np.frombuffer(self.data, np.uint8)[places]]]
        if not bad.size:
            return None
        return Flaw(int(bad[0]) - 1, "the escape stands before a character that has no special meaning",
                    "Set csv.escape only where the escape itself is escaped too")  # fmt: skip

    def _backslash(self, before: int) -> str | None:
        if self.form.escape == NONE and self.data.find(b"\\" + self.form.quote.encode(), 0, before) >= 0:
            return "If a backslash stands before a quote that belongs to the value, set csv.escape: '\\'"
        return None


def _places(data: bytes, character: str) -> np.ndarray:
    if character == NONE or character.encode() not in data:
        return _NOWHERE
    return np.flatnonzero(np.frombuffer(data, np.uint8) == ord(character))


def _escaped(data: bytes, escape: str) -> np.ndarray:
    """Places after an escape that is not itself escaped: in a row of escapes every other one."""
    places = _places(data, escape)
    if not places.size:
        return _NOWHERE
    order = np.arange(len(places))
    first = np.maximum.accumulate(np.where(np.diff(places, prepend=-2) != 1, order, 0))
    active: np.ndarray = places[(order - first) % 2 == 0] + 1
    return active

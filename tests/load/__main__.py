"""`make serving-load`: what live traffic sees of each fault, as a table in docs/faults.md.

LOAD_SECONDS=5 LOAD_RATE=200 python tests/load [ROW ..]     seconds of traffic before and after each fault

Ends with 1 where a row is not as it should be, and leaves the page as it was.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from load.rows import ROWS, Seen, Site  # noqa: E402
from support.served import Served  # noqa: E402

BEGIN, END = "<!-- make serving-load -->\n", "<!-- end -->\n"
HEAD = "| fault | asked | errors | bound | last error after the fault | besides |\n|---|---|---|---|---|---|\n"


def line(name: str, seen: Seen) -> str:
    """A row of the table."""
    errors = ", ".join(f"{count} {kind}" for kind, count in sorted(seen.errors.items())) or "0"
    recovered = f"{seen.recovered:.1f} s" if seen.errors else "-"
    return f"| {name} | {seen.asked:,} | {errors} | {seen.bound} | {recovered} | {seen.also} |\n"


def write(page: Path, lines: dict[str, str]) -> None:
    """Put rows into the page's table; those that did not run stay as an earlier run left them."""
    before, _, rest = page.read_text().partition(BEGIN)
    table, _, after = rest.partition(END)
    every = {row.split("|")[1].strip(): f"{row}\n" for row in table.splitlines()} | lines
    page.write_text(before + BEGIN + HEAD + "".join(every[name] for name in ROWS if name in every) + END + after)


def main(names: list[str]) -> int:
    """Run these rows, or all."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was started ends with it
    seconds, rate = float(os.environ.get("LOAD_SECONDS", "3")), float(os.environ.get("LOAD_RATE", "100"))
    wrong, lines = [], dict[str, str]()
    with tempfile.TemporaryDirectory(prefix="millrace-load-") as folder:
        made = Served.make(Path(folder) / "made")
        for name in names or ROWS:
            home = Path(folder) / name.replace(" ", "-")
            shutil.copytree(made.root, home / "p")
            began = time.monotonic()
            try:
                seen = ROWS[name](Site(Served(home / "p", made.views), home, seconds, rate))
                faults = seen.faults
                lines[name] = line(name, seen)
            except Exception as err:
                faults = [f"{type(err).__name__}: {err}"]
            wrong += [f"{name}: {each}" for each in faults]
            print(f"{time.monotonic() - began:5.1f} s  {lines.get(name, name).strip()}", *faults, flush=True)
    if not wrong:
        write(ROOT / "docs" / "faults.md", lines)
    print("\n".join(wrong) or "nothing was wrong")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

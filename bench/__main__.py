"""Run all measurements or the named parts, keep them in .millrace/bench.json, print the table.

A part measures ours and the reference in one run; rows of parts that did not run stay as an earlier run left them.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench import (
    chart,
    compose,
    drift,
    features,
    gates,
    imports,
    ledger,
    loop,
    online,
    parse,
    pods,
    rollouts,
    serving,
)
from bench.row import Row

ROOT = Path(__file__).resolve().parents[1]
PARTS = {
    "features": features.measure,
    "online": online.measure,
    "serving": serving.measure,
    "gates": gates.measure,
    "drift": drift.measure,
    "imports": imports.measure,
    "parse": parse.measure,
    "ledger": ledger.measure,
    "loop": loop.measure,
    "pods": pods.measure,
    "rollouts": rollouts.measure,
    "compose": compose.measure,
}


def main(names: list[str]) -> int:
    """Measure the named parts (all if none are named)."""
    console = Console()
    unknown = set(names) - set(PARTS)
    if unknown:
        console.print(f"no such part: {', '.join(sorted(unknown))}; allowed: {', '.join(PARTS)}")
        return 2
    target = ROOT / ".millrace" / "bench.json"
    target.parent.mkdir(exist_ok=True)
    kept = json.loads(target.read_text()) if target.is_file() else []
    rows: list[Row] = []
    for name in names or PARTS:
        with tempfile.TemporaryDirectory(prefix="millrace-bench-") as folder:
            console.print(f"measuring: {name}")
            rows += PARTS[name](ROOT, Path(folder))
        measured = {row.name for row in rows}
        others = [row for row in kept if row["name"] not in measured]
        every = [*others, *(row.to_json() for row in rows)]
        target.write_text(json.dumps(every, indent=1) + "\n")
    table = Table("name", "ours", "reference", "unit", "ratio", "goal")
    for row in rows:
        table.add_row(row.name, f"{row.ours:.3f}", f"{row.reference:.3f}", row.unit, f"{row.ratio:.2f}", row.goal)
    console.print(table)
    console.print(f"written to {target.relative_to(ROOT)}")
    if chart.draw([Row.of_json(row) for row in every], target.with_name("bench.png")):
        console.print("drawn in .millrace/bench.png")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

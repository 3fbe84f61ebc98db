"""`python tests/gates/campaign`: the whole campaign; writes its tables into docs/gates.md."""

from __future__ import annotations

import sys
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(Path(__file__).parent), str(ROOT)]

from judge import Campaign, Caught  # noqa: E402
from mutators import mutants  # noqa: E402
from seed import SEED  # noqa: E402

PAGE = ROOT / "docs" / "gates.md"
BEGIN, END = "<!-- campaign -->", "<!-- end of campaign -->"
STAGES = ("land", "gate", "transform", "features")


def main() -> int:
    """Judge every mutant; exit 1 when a harmful one passes."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="millrace-campaign-") as folder:
        campaign = Campaign(Path(folder))
        judged, harms = [], {}
        for number, mutant in enumerate(mutants(SEED), start=1):
            caught = campaign.judge(mutant)
            judged.append(caught)
            if caught.by is None:
                assert caught.features is not None
                harms[mutant] = campaign.harm(caught.features)
            print(f"{number:3} {mutant.family}: {mutant.name}: {caught.by or 'PASSED'} {caught.check} "
                  f"{harms.get(mutant) or ''}", flush=True)  # fmt: skip
    harmful = [mutant for mutant, harm in harms.items() if harm]
    text = PAGE.read_text()
    head, tail = text.partition(BEGIN)[0], text.partition(END)[2]
    PAGE.write_text(f"{head}{BEGIN}\n{report(judged, harms)}\n{END}{tail}")
    print(
        f"{len(judged)} mutants, {len(harms)} passed, {len(harmful)} of them harmful; {time.monotonic() - began:.0f} s"
    )
    return 1 if harmful else 0


def report(judged: list[Caught], harms: dict) -> str:
    """The tables of docs/gates.md."""
    rows: dict[str, Counter] = defaultdict(Counter)
    checks: Counter = Counter()
    for caught in judged:
        rows[caught.mutant.family][caught.by or "passed"] += 1
        if caught.check:
            checks[caught.check.partition(" ")[0]] += 1
    lines = [
        "| family | mutants | land | raw gate | transform | features gate | passed |",
        "|---|---|---|---|---|---|---|",
    ]
    for family, counts in rows.items():
        shown = " | ".join(str(counts[stage] or "") for stage in (*STAGES, "passed"))
        lines.append(f"| {family} | {sum(counts.values())} | {shown} |")
    total = sum((counts for counts in rows.values()), Counter())
    lines.append(f"| **all** | {len(judged)} | " + " | ".join(str(total[s]) for s in (*STAGES, "passed")) + " |")
    lines += ["", "What the gates' first failed check was:", "", "| check | mutants |", "|---|---|"]
    lines += [f"| `{name}` | {count} |" for name, count in checks.most_common()]
    lines += ["", "What passed:", "", "| mutant | harm |", "|---|---|"]
    lines += [f"| {m.family}: {m.name} | {harm or 'none'} |" for m, harm in harms.items()]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())

"""What a campaign did and found, for docs/faults.md."""

from __future__ import annotations

from collections import Counter
from typing import Any


def markdown(state: dict[str, Any]) -> str:
    """Counts by victim and by the DAG that was at work, and all that was wrong."""
    kills: list[list[str]] = state["kills"]
    parts = ("features", "training", "release", "monitoring", "none")
    counted: Counter[tuple[str, str]] = Counter()
    for kind, phase in kills:
        for part in {word.partition(".")[0] for word in phase.split()}:
            counted[kind, part] += 1
    lines = [
        f"{len(kills)} kills in {state['round']} rounds, {state['seconds']:.0f} s, ledger on {state['ledger']}, seed "
        f"{state['seed']}: {len(state['days'])} partitions, {len(state['trainings'])} trainings, {state['versions']} "
        f"versions, {state['champions']} promotions; {state['cleared']} runs had spent their tries and were cleared.",
        "",
        f"| killed | times | {' | '.join(f'at work: {part}' for part in parts)} |",
        "|---|---|" + "---|" * len(parts),
    ]
    for kind, count in Counter(kind for kind, _ in kills).most_common():
        lines.append(f"| {kind} | {count} | " + " | ".join(str(counted[kind, part]) for part in parts) + " |")
    wrong = "\n".join(f"- {each}" for each in state["wrong"]) or "Nothing was wrong."
    return "\n".join([*lines, "", wrong, ""])

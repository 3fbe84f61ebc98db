"""`make chaos`: kill -9 at random moments to a project at work, round after round, and after each what must hold.

CHAOS_KILLS=500 CHAOS_SEED=1 CHAOS_LEDGER=sqlite|postgres python tests/chaos

A campaign that is ended goes on where it was when it is started again with the same seed and ledger; its state and
report lie in .millrace/chaos/<ledger>-<seed>/. Ends with 1 where something was wrong.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from contextlib import nullcontext
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(Path(__file__).parent), str(ROOT / "tests")]

from campaign import Campaign  # noqa: E402
from report import markdown  # noqa: E402
from support.ledger_cluster import cluster  # noqa: E402


def main(home: Path, seed: int, kills: int, ledger: str, seconds: float) -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was started ends with it
    home.mkdir(parents=True, exist_ok=True)
    until = time.monotonic() + seconds
    with cluster(folder=Path(f"/tmp/pg-chaos-{seed}")) if ledger == "postgres" else nullcontext() as url:
        if url:
            os.environ["MILLRACE_LEDGER"] = url.replace("postgresql://", "postgresql+psycopg2://")
        campaign = Campaign(home, seed, ledger, int(os.environ.get("CHAOS_PER_ROUND", "10")))
        try:
            campaign.begin()
            while campaign.kills < kills and not campaign.wrong and time.monotonic() < until:
                campaign.round(min(campaign.per_round, kills - campaign.kills))
                (home / "report.md").write_text(markdown(campaign.state))
        finally:
            campaign.end()
    (home / "report.md").write_text(markdown(campaign.state))
    print(markdown(campaign.state))
    print(json.dumps(campaign.state))
    return int(bool(campaign.wrong))


if __name__ == "__main__":
    given = os.environ
    seed, ledger = int(given.get("CHAOS_SEED", "1")), given.get("CHAOS_LEDGER", "sqlite")
    assert ledger in ("sqlite", "postgres"), f"CHAOS_LEDGER is {ledger}; allowed: sqlite, postgres"
    where = Path(given.get("CHAOS_HOME", ROOT / ".millrace" / "chaos" / f"{ledger}-{seed}"))
    sys.exit(main(where, seed, int(given.get("CHAOS_KILLS", "500")), ledger, float(given.get("CHAOS_SECONDS", "1e9"))))

"""`make demo`: the 2013 flights arrive month by month; the loop trains, scores, watches, retrains and promotes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table

from demo import baseline, chart, data, rehearsal, rollouts
from demo.loop import Loop, Month
from demo.rollouts import Rehearsal, Served, Tried
from millrace.core.errors import MillraceError
from millrace.core.settings import Settings
from millrace.local.record import Running
from millrace.local.stack import airflow_environment, current, down, up
from millrace.spec import ProjectTree

PIPELINE = "flight_delays"
MONTHS = [f"2013-{month:02d}" for month in range(1, 13)]
HISTORY, LATER = MONTHS[:4], MONTHS[4:]


def main() -> int:
    """Run the demo. Exit 0 when the loop went through, 1 with a plain message otherwise, 130 on ^C."""
    console = Console(width=None if sys.stdout.isatty() else 120)
    tree = ProjectTree.at(Path(__file__).parent)
    settings = Settings.load(tree.root)
    try:
        return _run(console, tree, settings)
    except KeyboardInterrupt:
        console.print("\nStopping: Airflow and MLflow are being ended; what was computed stays in .millrace")
        down(settings)
        return 130
    except MillraceError as err:
        console.print(f"The demo stopped: {err}", style="red", markup=False)
        down(settings)
        return 1


def _run(console: Console, tree: ProjectTree, settings: Settings) -> int:
    began = time.monotonic()
    folder = settings.home / "demo"
    folder.mkdir(parents=True, exist_ok=True)
    earlier = current(settings)
    resumed = (settings.home / "ledger.db").exists()
    if earlier is not None and earlier.alive():
        console.print(f"Airflow of this project is running already at {earlier.airflow_url}")
    console.print(
        "Resuming: state of an earlier run was found in .millrace; finished months are kept."
        if resumed
        else "Starting clean: no earlier state in .millrace."
    )
    incoming = tree.root / data.INCOMING
    data.write_planes(incoming)
    second = rehearsal.write(tree, settings.home, folder / "rollout")
    with console.status("Starting Airflow and MLflow, checking the pipelines ..."):
        running = up(tree, settings, [second])
        for each in (tree, second):
            _apply(each)
    env = {**os.environ, **airflow_environment(tree, settings)}
    console.print(f"Airflow is up after {time.monotonic() - began:.0f} s: {running.airflow_url}")
    loop = Loop(tree, settings, running.api, env, PIPELINE)
    loop.ready()
    months: list[Month] = []
    with Live(
        _table(months, "waiting"), console=console, refresh_per_second=2, auto_refresh=console.is_terminal
    ) as live:

        def show(state: str) -> None:
            live.update(_table(months, state))
            if not console.is_terminal:
                console.print(state)

        for month in HISTORY:
            _deliver(incoming, month)
        show(f"backfill {HISTORY[0]} to {HISTORY[-1]}")
        loop.backfill(HISTORY[0], HISTORY[-1])
        months += [loop.month(m) for m in HISTORY]
        show("training the first model")
        loop.first_champion(HISTORY[-1])
        for month in LATER:
            _deliver(incoming, month)
            months.append(Month(month))
            show(f"{month}: features, scores, drift, decision")
            loop.arrive(month, lambda text, m=month: show(f"{m}: {text}"))
            months[-1] = loop.month(month)
            show(f"{month}: done")
    with console.status("Comparing with the frozen first model and with retraining every month ..."):
        frozen, monthly = baseline.losses(tree, settings, PIPELINE, HISTORY, LATER)
    served, tried = _serve(console, tree, second, loop, running)
    seconds = time.monotonic() - began
    picture = folder / "loop.png"
    rows = [m.summary(frozen.get(m.month), monthly.get(m.month)) for m in months]
    retrains = sum(1 for r in rows if r["decision"] == "retrain")
    summary: dict[str, Any] = {
        "months": rows,
        "served": asdict(served),
        "rollouts": [asdict(each) for each in tried],
        "retrains": retrains,
        "seconds": round(seconds, 1),
        "airflow_url": running.airflow_url,
        "mlflow_url": running.mlflow_url,
        "chart": str(picture.relative_to(tree.root)),
    }
    chart.draw(rows, tried, picture)
    (folder / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")
    console.print(_table(months, "finished", frozen, monthly))
    _report(console, rows, retrains, seconds)
    console.print(_rollouts(tried))
    console.print(
        f"Version {served.version} answered {served.flights:,} flights of {LATER[-1]}: log loss {served.log_loss:.4f}, "
        f"{served.p50_ms:.1f} ms in the middle, {served.p99_ms:.1f} ms at the 99th percentile, beside Airflow."
    )
    console.print(f"Chart: {summary['chart']}   Summary: .millrace/demo/summary.json", markup=False)
    console.print(f"Airflow: {running.airflow_url}   user {running.user}   password {running.password}", markup=False)
    console.print(f"MLflow:  {running.mlflow_url}")
    console.print("Stop both with: make down")
    return 0


def _serve(
    console: Console, tree: ProjectTree, second: ProjectTree, loop: Loop, running: Running
) -> tuple[Served, list[Tried]]:
    """The December champion answers; then two bad versions of the second project are on their way to traffic."""
    url = next(iter(running.serving_urls.values()), None)  # of the one that all without code share
    if url is None:
        raise MillraceError("no prediction server runs", next_step="Run 'make down', then the demo again")
    with console.status(f"Asking the champion for flights of {LATER[-1]} ...") as status:
        served = rollouts.serve(loop, url, LATER[-1])
        other = Loop(second, loop.settings, running.api, loop.env, rehearsal.NAME)
        other.ready()
        trial = Rehearsal(other, url, lambda fault: rehearsal.plant(tree, second, fault))
        status.update("The second project's first version ...")
        trial.first()
        tried = []
        for fault in rehearsal.FAULTS:
            say = partial(lambda what, text: status.update(f"A version with {what}: {text} ..."), fault)
            tried.append(trial.bad(fault, say))
    return served, [each for each in tried if each is not None]


def _rollouts(tried: list[Tried]) -> Table:
    table = Table(title=f"{rehearsal.NAME}: versions that learned from broken labels")
    for name in ("version", "fault", "stopped in", "why", "requests", "answered by it", "errors", "s"):
        table.add_column(name)
    for each in tried:
        table.add_row(
            f"v{each.version}", each.fault, each.stopped_in, each.guard, f"{each.asked:,}", f"{each.answered:,}",
            str(each.errors), f"{each.seconds:.1f}",
        )  # fmt: skip
    return table


def _deliver(incoming: Path, month: str) -> None:
    """What an airline and a weather service send at the end of a month."""
    data.write_flights(incoming, month)
    data.write_weather(incoming, month)


def _apply(tree: ProjectTree) -> None:
    command = [sys.executable, "-m", "millrace.cli.app", "apply"]
    done = subprocess.run(command, cwd=tree.root, capture_output=True, text=True)
    if done.returncode:
        raise MillraceError("'millrace apply' failed", given=done.stderr.strip()[-500:])


def _table(
    months: list[Month], state: str, frozen: dict[str, float] | None = None, monthly: dict[str, float] | None = None
) -> Table:
    table = Table(title=f"{PIPELINE}: {state}")
    for name in ("month", "rows", "drift", "decision", "reason", "champion", "log loss", "frozen", "monthly"):
        table.add_column(name, justify="right" if name in ("rows", "log loss", "frozen", "monthly") else "left")

    def number(value: float | None) -> str:
        return "" if value is None else f"{value:.4f}"

    for m in months:
        table.add_row(
            m.month,
            f"{m.rows:,}" if m.rows else "",
            m.drift,
            m.decision,
            m.reason,
            m.champion,
            number(m.log_loss),
            number((frozen or {}).get(m.month)),
            number((monthly or {}).get(m.month)),
        )
    return table


def _report(console: Console, rows: list[dict[str, Any]], retrains: int, seconds: float) -> None:
    scored = [r for r in rows if None not in (r["log_loss"], r["log_loss_frozen"], r["log_loss_monthly"])]
    if not scored:
        return
    loop, frozen, monthly = (
        sum(r[key] * r["rows"] for r in scored) / sum(r["rows"] for r in scored)
        for key in ("log_loss", "log_loss_frozen", "log_loss_monthly")
    )
    share = (frozen - loop) / (frozen - monthly) if frozen > monthly else float("nan")
    console.print(
        f"Mean log loss over {len(scored)} months: loop {loop:.4f}, frozen {frozen:.4f}, monthly {monthly:.4f}. "
        f"The loop recovered {share:.0%} of what monthly retraining gains, with {retrains} retrainings instead of "
        f"{len(scored) - 1}. {seconds:.0f} s in all."
    )


if __name__ == "__main__":
    sys.exit(main())

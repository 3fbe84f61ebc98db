"""`make test`: all tests, in groups beside each other. What starts an Airflow or a cluster mostly waits.

python tests [GROUP ..]     each group's whole output lies in .millrace/test-<group>.log
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

ROOT = Path(__file__).resolve().parents[1]
LOGS = ROOT / ".millrace"
AT_ONCE = 2
"""More would slow each other down on two cores until what waits for a server gives up."""
STACKS = ("cluster", "chart", "loop", "compose")
"""Each starts an Airflow with all of its processes: beside one of these runs one that starts none, while there is."""
ENGINES = ("feast_stores", "gates", "online", "pipelines", "sources", "sql")
OWN = ("cluster", "chart", "compose", "images")
SUMMARY = re.compile(r"\d+ \w+.* in \d+\.\d+s")
NOTHING_TO_RUN = 5
"""pytest's word for no test: there is no cluster, no engine; the tests say so themselves."""

GROUPS: dict[str, list[str]] = {
    # The longest first.
    "cluster": ["tests/cluster"],
    "loop": ["-m", "loop", "tests/loop"],
    "chart": ["tests/chart"],
    "compose": ["tests/compose"],
    "rest": ["-m", "not loop", "tests", *(f"--ignore=tests/{room}" for room in (*ENGINES, *OWN))],
    "engines": ["-m", "not loop", *(f"tests/{room}" for room in ENGINES)],
    "images": ["tests/images"],
}


@dataclass
class Group:
    """One pytest, in the process group of this one: whoever ends that group ends all."""

    name: str
    began: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.log = LOGS / f"test-{self.name}.log"
        command = [sys.executable, "-m", "pytest", "--durations=0", "--durations-min=4", *GROUPS[self.name]]
        with self.log.open("wb") as out:
            self.process = subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=out)

    def over(self) -> bool:
        return self.process.poll() is not None

    def failed(self) -> bool:
        return self.process.returncode not in (0, NOTHING_TO_RUN)

    def say(self, counted: Counter[str]) -> None:
        """One line for a group that passed, with why tests were left out; the whole log of one that did not."""
        minutes, seconds = divmod(round(time.monotonic() - self.began), 60)
        text = self.log.read_text(errors="replace")
        lines = text.rstrip().splitlines()
        # Not the last line: libraries speak at exit.
        summary = next((line for line in reversed(lines) if SUMMARY.search(line)), "no summary")
        counted.update({what: int(n) for n, what in re.findall(r"(\d+) (passed|failed|skipped|error)", summary)})
        shown = lines if self.failed() else [line for line in lines if line.startswith("SKIPPED")]
        print("\n".join([*shown, f"{self.name}: {summary.strip(' =')}, {minutes}:{seconds:02d} in all"]), flush=True)


def beside(running: list[str], waiting: list[str]) -> str:
    """Which group comes next: the first that is no second stack, else the first."""
    busy = any(name in STACKS for name in running)
    return next((name for name in waiting if not (busy and name in STACKS)), waiting[0])


def main(names: list[str]) -> int:
    if unknown := [name for name in names if name not in GROUPS]:
        print(f"no such group: {', '.join(unknown)}; allowed: {', '.join(GROUPS)}")
        return 2
    waiting, running, ended = [name for name in GROUPS if name in (names or GROUPS)], [], []
    counted: Counter[str] = Counter()
    LOGS.mkdir(exist_ok=True)

    def leave(number: int, frame: FrameType | None) -> None:
        """The fixtures end what they have started: one signal, and time for it. An interrupt comes to all."""
        for group in running if number == signal.SIGTERM else ():
            group.process.send_signal(signal.SIGTERM)
        for group in running:
            group.process.wait()
        sys.exit(128 + number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, leave)
    while waiting or running:
        while waiting and len(running) < AT_ONCE:
            name = beside([group.name for group in running], waiting)
            waiting.remove(name)
            running.append(Group(name))
        time.sleep(0.2)
        for group in [each for each in running if each.over()]:
            running.remove(group)
            ended.append(group)
            group.say(counted)
    failed = [group.name for group in ended if group.failed()]
    if failed:
        print(f"failed: {', '.join(failed)}")
    wrong = counted["failed"] + counted["error"]
    print(f"{counted['passed']} passed, {wrong} failed, {counted['skipped']} skipped")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

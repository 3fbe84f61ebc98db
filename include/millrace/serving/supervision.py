"""The processes of a server, watched by the parent that forked them: what dies or hangs is replaced, and said.

The parent serves nothing and predicts nothing: it can always kill, and its forks find no lock that somebody holds.
"""

from __future__ import annotations

import atexit
import faulthandler
import gc
import logging
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NoReturn

from millrace.core import orphans
from millrace.core.errors import MillraceError
from millrace.serving.slots import Predicting, Slot, Slots

How = Literal["crashed", "hung"]
Blame = Callable[[bytes | None, How, "Ended"], None]
"""Called with the digest of the version that was predicting, how its process ended, and which process that was."""

CRASHES = (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL)
LEAVE = {signal.SIGTERM, signal.SIGINT}
EARLY_S = 5.0
"""A process that ends within so many seconds of its start has ended early."""
TRIES = 5
"""As many early ends in a row of a process that the server cannot do without end the server."""
_PAUSE_S, _LONGEST_PAUSE_S = 0.25, 30.0
_LOOK_S = 0.25
_SLOW_LOOK_S = 0.5
"""No more than this between two looks counts against a process: a machine that stood still is nobody's fault."""
_OOM_S = 5.0
"""A process may take so long to end once the kernel has killed it for want of memory."""

logger = logging.getLogger(__name__)


class GaveUp(MillraceError):
    """A process that the server cannot do without ended early, again and again."""


@dataclass(frozen=True)
class Process:
    """What one process does. `run` is called in it with its slot, and beats once it has started, then every BEAT_S.

    A `vital` one ends the server when it cannot be kept running, and is asked to leave first; another is always tried
    again.
    """

    name: str
    run: Callable[[Slot], None]
    vital: bool = True
    hang_s: float = 5.0
    start_s: float = 120.0


@dataclass(frozen=True)
class Ended:
    """A process that ended. `code` is its exit code, or less than 0: the signal that ended it."""

    name: str
    pid: int
    code: int
    predicting: Predicting | None

    def __str__(self) -> str:
        if self.code >= 0:
            return f"{self.name} (process {self.pid}) ended with exit code {self.code}"
        named = signal.Signals(-self.code).name if -self.code in set(signal.Signals) else f"signal {-self.code}"
        return f"{self.name} (process {self.pid}) was ended by {named}"


@dataclass
class _Child:
    process: Process
    slot: Slot
    pid: int = 0
    """0 while there is none."""
    due: float = 0.0
    """When the next one is to be started."""
    started: float = 0.0
    """When it was first seen to have started, 0 before."""
    beaten: int = 0
    still_s: float = 0.0
    early: int = 0
    killed: Literal["hung", "start", "left", ""] = ""


class Supervisor:
    """Runs processes until it is asked to leave (SIGTERM, SIGINT); call `run` in the main thread, without any other.

    `blame` is called in the parent, before the process is replaced: it returns soon and leaves no thread behind.
    `ready` is called once, when all vital processes have started, `leaving` before the first is asked to leave.
    """

    def __init__(
        self, processes: Sequence[Process], *, blame: Blame, ready: Callable[[], None] = lambda: None,
        leaving: Callable[[], None] = lambda: None, drain_s: float = 30.0,
    ) -> None:  # fmt: skip
        slots = Slots(len(processes))
        self._children = [_Child(process, slots[number]) for number, process in enumerate(processes)]
        self._blame, self._ready, self._leaving, self._drain_s = blame, ready, leaving, drain_s
        self._looked, self._said_ready = 0.0, False
        self._oom_kills, self._counted = [_oom_kills()] * 2, time.monotonic()

    def run(self) -> None:
        """Start the processes and watch over them. Returns when they were asked to leave and have left.

        Raises GaveUp when a vital one could not be kept running. No process is left in either case.
        """
        gc.collect()
        gc.freeze()  # what is shared with the children is not looked through there, and so not copied
        with self._listening():
            try:
                self._looked = time.monotonic()
                while not (asked := self._wait(_LOOK_S)):
                    self._look()
                logger.info("asked to leave (%s): the server's processes end what they have begun", asked.name)
            finally:
                self._leaving()
                self._drain()
                gc.unfreeze()

    @contextmanager
    def _listening(self) -> Iterator[None]:
        """Inside, signals wait until they are asked for: none interrupts, and none is lost."""
        self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, {*LEAVE, signal.SIGCHLD})
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)

    def _wait(self, seconds: float) -> signal.Signals | None:
        """Until a child ends or this time is over; the signal that asks to leave, if one has come."""
        came = signal.sigtimedwait({*LEAVE, signal.SIGCHLD}, seconds)
        return signal.Signals(came.si_signo) if came and came.si_signo in LEAVE else None

    def _look(self) -> None:
        now = time.monotonic()
        passed, self._looked = min(now - self._looked, _SLOW_LOOK_S), now
        for child in self._children:
            if child.pid and not self._reaped(child):
                self._watch(child, now, passed)
            if not child.pid and now >= child.due:
                self._start(child)
        if now > self._counted + _OOM_S:
            self._oom_kills, self._counted = [self._oom_kills[1], _oom_kills()], now
        if not self._said_ready and all(child.started for child in self._children if child.process.vital):
            self._said_ready = True
            self._ready()

    def _watch(self, child: _Child, now: float, passed: float) -> None:
        """Kill a process that hangs, or does not get to its start."""
        beaten = child.slot.beaten()
        child.still_s = 0.0 if beaten != child.beaten else child.still_s + passed
        child.beaten = beaten
        child.started = child.started or (now if beaten else 0.0)
        if child.started and now > child.started + EARLY_S:
            child.early = 0
        if not child.killed and child.still_s > (child.process.hang_s if beaten else child.process.start_s):
            child.killed = "hung" if beaten else "start"
            os.kill(child.pid, signal.SIGKILL)

    def _reaped(self, child: _Child) -> bool:
        done, status = os.waitpid(child.pid, os.WNOHANG)
        if not done:
            return False
        ended = Ended(child.process.name, child.pid, os.waitstatus_to_exitcode(status), child.slot.prediction())
        now, killed, child.pid, child.killed = time.monotonic(), child.killed, 0, ""
        early = not child.started or now < child.started + EARLY_S
        child.early = child.early + 1 if early else 0
        child.started = 0.0
        self._say(ended, child.process, killed)
        if killed == "hung":
            self._accuse("hung", ended)
        elif ended.predicting and self._crashed(ended, killed):
            self._accuse("crashed", ended)
        if child.process.vital and child.early >= TRIES:
            raise GaveUp(
                f"{child.process.name} ended {child.early} times in a row, each time within {EARLY_S:g} s of its start",
                next_step="What ended it stands in the log above",
            )
        if child.early:
            child.due = now + min(_PAUSE_S * 2 ** (child.early - 1), _LONGEST_PAUSE_S)
        return True

    def _crashed(self, ended: Ended, killed: str) -> bool:
        """Whether a signal ended it that its own doings bring about. SIGKILL counts where memory ran out, not where
        somebody sent it."""
        if killed or ended.code >= 0:
            return False
        if -ended.code != signal.SIGKILL:
            return -ended.code in CRASHES
        return self._oom_kills[0] is None or self._oom_kills[0] != _oom_kills()

    def _accuse(self, how: How, ended: Ended) -> None:
        try:
            self._blame(ended.predicting.digest if ended.predicting else None, how, ended)
        except Exception:  # to go on serving matters more than to have said whose fault it was
            logger.exception("could not record which version %s", "hung" if how == "hung" else "crashed")

    def _say(self, ended: Ended, process: Process, killed: str) -> None:
        if killed == "hung":
            logger.error("%s: it had not answered for %g s", ended, process.hang_s)
        elif killed == "start":
            logger.error("%s: it had not started after %g s", ended, process.start_s)
        elif killed == "left":
            logger.error("%s: it had not left after %g s", ended, self._drain_s)
        else:
            logger.error("%s", ended)

    def _start(self, child: _Child) -> None:
        child.slot.clear()
        child.beaten, child.still_s, child.started = 0, 0.0, 0.0
        for stream in (sys.stdout, sys.stderr):  # or both processes would write what waits in it
            with suppress(OSError, ValueError):
                stream.flush()
        parent = os.getpid()
        child.pid = os.fork() or self._become(child, parent)

    def _become(self, child: _Child, parent: int) -> NoReturn:
        """The process, from its first step to its end."""
        code = 1
        try:
            orphans.end_with(parent)
            for crash in CRASHES:
                signal.signal(crash, signal.SIG_DFL)
            faulthandler.enable(file=2)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all: the parent says who leaves when
            signal.pthread_sigmask(signal.SIG_SETMASK, self._mask - LEAVE)
            atexit._clear()
            child.process.run(child.slot)
            code = 0
        except SystemExit as left:
            code = left.code if isinstance(left.code, int) else 1
        except BaseException:
            traceback.print_exc()
        finally:
            for stream in (sys.stdout, sys.stderr):
                with suppress(OSError, ValueError):
                    stream.flush()
            os._exit(code)  # what was made before the fork is the parent's to close

    def _drain(self) -> None:
        """Ask the vital processes to leave, then the others; kill what has not left within the limit, or at a second
        request to leave."""
        until = time.monotonic() + self._drain_s
        for vital in (True, False):
            left = [child for child in self._children if child.pid and child.process.vital is vital]
            for child in left:
                os.kill(child.pid, signal.SIGTERM)
            while left := [child for child in left if not self._left(child)]:
                if self._wait(min(_LOOK_S, max(0.02, until - time.monotonic()))):
                    until = 0.0
                if time.monotonic() >= until:
                    for child in left:
                        self._kill(child)

    def _left(self, child: _Child) -> bool:
        """Whether it has left. How it did is said only where it went wrong."""
        done, status = os.waitpid(child.pid, os.WNOHANG)
        if not done:
            return False
        ended = Ended(child.process.name, child.pid, os.waitstatus_to_exitcode(status), child.slot.prediction())
        child.pid = 0
        if ended.code not in (0, -signal.SIGTERM):
            self._say(ended, child.process, child.killed)
        if ended.predicting and child.killed == "hung":
            self._accuse("hung", ended)
        elif ended.predicting and self._crashed(ended, child.killed):
            self._accuse("crashed", ended)
        return True

    def _kill(self, child: _Child) -> None:
        if not child.killed:
            age = (time.monotonic_ns() - child.slot.beaten()) / 1e9
            child.killed = "hung" if child.slot.beaten() and age > child.process.hang_s else "left"
            os.kill(child.pid, signal.SIGKILL)


def _oom_kills() -> int | None:
    """How many processes this machine's kernel has killed for want of memory, where it says so."""
    with suppress(OSError, ValueError):
        for line in Path("/proc/vmstat").read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return None

"""No orphans: a child process that the kernel ends when its parent does, however the parent did.

Only Linux does that; elsewhere a child outlives a parent that was killed.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
_prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None
"""Looked up before any fork: after it, in a process that had threads, only the call itself is safe."""


def end_with(parent: int, number: int = signal.SIGKILL) -> None:
    """In a child that was just forked: get signal `number` when `parent`, the process that forked it, ends.

    A thread that ends counts as its process: fork from one that stays. Ends this process at once where the parent has
    gone already.
    """
    if _prctl is None:
        return
    _prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)
    if os.getppid() != parent:  # it ended before the kernel knew
        os._exit(1)

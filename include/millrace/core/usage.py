"""What a job used: seconds, CPU, memory, and the GPUs as their driver tells. For `observed`, never for an outcome."""

from __future__ import annotations

import ctypes
import resource
import threading
import time
from datetime import UTC, datetime
from typing import Any

_NVML = "libnvidia-ml.so.1"
_EVERY = 0.5  # seconds between two looks at a GPU


class Usage:
    """Counts from its making on. With `gpu`, a thread looks at the GPUs of this machine until `stop`."""

    def __init__(self) -> None:
        self.started = datetime.now(UTC).isoformat(timespec="seconds")
        self._began, self._cpu = time.monotonic(), _cpu_seconds()
        self._gpus: _Gpus | None = None

    def watch_gpus(self) -> None:
        """Look at the GPUs from now on, where the driver's library is there."""
        if self._gpus is None and (library := _nvml()):
            self._gpus = _Gpus(library)
            self._gpus.start()

    def observed(self) -> dict[str, Any]:
        """Fields of `Observed`, processes that the job started and awaited included."""
        who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
        return {
            "started": self.started,
            "seconds": round(time.monotonic() - self._began, 3),
            "cpu_seconds": round(_cpu_seconds() - self._cpu, 3),
            "peak_memory_mb": round(max(resource.getrusage(w).ru_maxrss for w in who) / 1024, 1),
        }

    def gpu_notes(self) -> list[str]:
        """A line for each GPU that was watched: share of time busy, and most memory used on it."""
        if self._gpus is None:
            return []
        self._gpus.ended.set()
        self._gpus.join(timeout=5)
        return self._gpus.notes()


class _Gpus(threading.Thread):
    """Samples of each GPU's use: NVML's share of the last period in which a kernel ran, and memory."""

    def __init__(self, library: Any) -> None:
        super().__init__(daemon=True, name="gpu-usage")
        self.library, self.ended = library, threading.Event()
        self.names: dict[int, str] = {}
        self.busy: dict[int, list[int]] = {}
        self.memory: dict[int, int] = {}

    def run(self) -> None:
        count = ctypes.c_uint()
        self.library.nvmlDeviceGetCount_v2(ctypes.byref(count))
        while True:
            for number in range(count.value):
                self._look(number)
            if self.ended.wait(_EVERY):
                return

    def notes(self) -> list[str]:
        return [
            f"GPU {number} ({self.names[number]}): {sum(busy) / len(busy):.0f} % busy over {len(busy)} samples, "
            f"at most {self.memory[number] / 2**30:.1f} GiB used"
            for number, busy in sorted(self.busy.items())
        ]

    def _look(self, number: int) -> None:
        device, name = ctypes.c_void_p(), ctypes.create_string_buffer(96)
        # nvmlUtilization_t: unsigned gpu, memory; nvmlMemory_t: unsigned long long total, free, used
        rates, memory = (ctypes.c_uint * 2)(), (ctypes.c_ulonglong * 3)()
        failed = (
            self.library.nvmlDeviceGetHandleByIndex_v2(number, ctypes.byref(device))
            or self.library.nvmlDeviceGetName(device, name, len(name))
            or self.library.nvmlDeviceGetUtilizationRates(device, rates)
            or self.library.nvmlDeviceGetMemoryInfo(device, memory)
        )
        if not failed:
            self.names[number] = name.value.decode()
            self.busy.setdefault(number, []).append(rates[0])
            self.memory[number] = max(self.memory.get(number, 0), memory[2])


def _nvml() -> Any | None:
    try:
        library = ctypes.CDLL(_NVML)
    except OSError:
        return None
    return None if library.nvmlInit_v2() else library


def _cpu_seconds() -> float:
    """User and system time of this process and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)

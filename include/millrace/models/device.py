"""Which device a training runs on: the GPUs that a process sees, and what a request for them comes to here.

GPUs are counted by the driver's own library, so that nobody waits three seconds for torch to learn that there are none.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from millrace.contract import Means
from millrace.core.errors import ContractError, MillraceError, Retry

Device = Literal["cpu", "cuda"]
_DRIVER = "libcuda.so.1"


class NoGPU(MillraceError):
    """A GPU was asked for and is not here; another node may have one."""

    retry: ClassVar[Retry] = "same"


@dataclass(frozen=True)
class Placement:
    """Where a training runs: `gpus` of them on device `cuda`, else the CPU; `note` says what a person should know."""

    device: Device = "cpu"
    gpus: int = 0
    note: str | None = None


def asked_of(means: Means) -> tuple[int, bool]:
    """GPUs that a request's means give, and whether the CPU may do instead: limits `gpus` (a number) and
    `gpu_fallback` (`cpu`). Raises ContractError for anything else."""
    given, other = means.limits.get("gpus", "0"), means.limits.get("gpu_fallback")
    if not given.isdecimal():
        raise ContractError("means.limits.gpus is not a number", given=given, allowed="0, 1, 2 ..")
    if other not in (None, "cpu"):
        raise ContractError("nothing but the CPU can stand in for a GPU", given=other, allowed=["cpu"])
    return int(given), other == "cpu"


def gpus() -> tuple[str, ...]:
    """Names of the GPUs that this process may use, as CUDA counts them (CUDA_VISIBLE_DEVICES holds)."""
    try:
        cuda = ctypes.CDLL(_DRIVER)
    except OSError:
        return ()
    count = ctypes.c_int()
    if cuda.cuInit(0) or cuda.cuDeviceGetCount(ctypes.byref(count)):
        return ()
    names = []
    for number in range(count.value):
        device, name = ctypes.c_int(), ctypes.create_string_buffer(100)
        if cuda.cuDeviceGet(ctypes.byref(device), number) or cuda.cuDeviceGetName(name, len(name), device):
            return ()
        names.append(name.value.decode())
    return tuple(names)


def place(asked: int, *, fallback: bool, engine: Any, learner: str) -> Placement:
    """Where `engine` trains when `asked` GPUs were asked for; fewer than asked count as none.

    Without them: the CPU, with a note, where `fallback` allows it. Raises NoGPU where it does not, and MillraceError
    for a learner that trains on the CPU only.
    """
    if asked <= 0:
        return Placement()
    if "cuda" not in getattr(engine, "devices", ("cpu",)):
        if fallback:
            return Placement(note=f"Trained on the CPU: learner '{learner}' uses no GPU")
        raise MillraceError(f"learner '{learner}' trains on the CPU only", next_step="Choose a profile without a GPU")
    found = gpus()
    if len(found) >= asked:
        if asked > 1 and not getattr(engine, "several", False):
            return Placement("cuda", 1, f"Trained on 1 x {found[0]}: learner '{learner}' uses one GPU of {asked}")
        return Placement("cuda", asked, f"Trained on {asked} x {found[0]}")
    said = f"{asked} GPU{'s' * (asked > 1)} asked for, {len(found) or 'none'} found"
    if fallback:
        return Placement(note=f"Trained on the CPU: {said}, and the profile allows it")
    raise NoGPU(
        said,
        next_step="Choose a profile without a GPU, or let this one fall back to the CPU; "
        "on a node that has GPUs, see whether its driver and device plugin answer",
    )

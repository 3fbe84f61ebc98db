"""Which device a training gets: what was asked for, what is there, and what stands in for it."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path

import pytest

from millrace.contract import Means
from millrace.core.errors import ContractError, MillraceError
from millrace.learners.protocol import learner_of
from millrace.models import device
from millrace.models.device import NoGPU, Placement, asked_of, gpus, place
from millrace.spec.learner import TorchMLPLearner, XGBoostLearner

XGBOOST = learner_of(XGBoostLearner())

# The calls of CUDA's driver library, with the signatures of cuda.h, for a machine with two GPUs.
DRIVER = """
#include <string.h>
int cuInit(unsigned int flags) { return 0; }
int cuDeviceGetCount(int *count) { *count = 2; return 0; }
int cuDeviceGet(int *device, int ordinal) { *device = 100 + ordinal; return ordinal < 2 ? 0 : 101; }
int cuDeviceGetName(char *name, int len, int dev) { strncpy(name, dev == 100 ? "One" : "Two", len); return 0; }
"""


@pytest.fixture
def none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "_DRIVER", "libno-such-driver.so.1")


@pytest.fixture
def two(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler to build a driver library with")
    (tmp_path / "driver.c").write_text(DRIVER)
    library = tmp_path / "libcuda.so.1"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, tmp_path / "driver.c"], check=True)
    monkeypatch.setattr(device, "_DRIVER", str(library))


def test_without_a_driver_there_are_none(none: None) -> None:
    assert gpus() == ()


def test_the_driver_names_them(two: None) -> None:
    assert gpus() == ("One", "Two")


def test_a_driver_without_a_device_has_none(two: None, monkeypatch: pytest.MonkeyPatch) -> None:
    # CUDA_ERROR_NO_DEVICE, as from a driver on a node without GPU
    library = ctypes.CDLL(device._DRIVER)

    class Empty:
        cuInit = staticmethod(lambda flags: 100)
        cuDeviceGetCount = library.cuDeviceGetCount

    monkeypatch.setattr(ctypes, "CDLL", lambda name: Empty)
    assert gpus() == ()


@pytest.mark.parametrize("learner", [XGBoostLearner(), TorchMLPLearner()], ids=["xgboost", "torch_mlp"])
def test_a_gpu_that_is_there_is_used(two: None, learner: object) -> None:
    engine = learner_of(learner)  # type: ignore[arg-type]
    assert place(1, fallback=False, engine=engine, learner="x") == Placement("cuda", 1, "Trained on 1 x One")
    assert place(1, fallback=True, engine=engine, learner="x").device == "cuda"


def test_several_gpus_are_used_by_who_can(two: None) -> None:
    mlp = learner_of(TorchMLPLearner())
    assert place(2, fallback=False, engine=mlp, learner="mlp") == Placement("cuda", 2, "Trained on 2 x One")
    one = place(2, fallback=False, engine=XGBOOST, learner="xgboost")
    assert one == Placement("cuda", 1, "Trained on 1 x One: learner 'xgboost' uses one GPU of 2")


def test_who_asks_for_none_gets_none(two: None) -> None:
    assert place(0, fallback=False, engine=XGBOOST, learner="xgboost") == Placement("cpu", 0, None)


def test_a_gpu_that_is_not_there_is_an_error(none: None) -> None:
    with pytest.raises(NoGPU, match="1 GPU asked for, none found. Choose a profile without a GPU") as said:
        place(1, fallback=False, engine=XGBOOST, learner="xgboost")
    assert said.value.retry == "same"


def test_fewer_than_asked_for_are_an_error(two: None) -> None:
    with pytest.raises(NoGPU, match="4 GPUs asked for, 2 found"):
        place(4, fallback=False, engine=XGBOOST, learner="xgboost")


def test_the_cpu_stands_in_where_it_may_and_it_is_said(none: None) -> None:
    found = place(1, fallback=True, engine=XGBOOST, learner="xgboost")
    assert (found.device, found.gpus) == ("cpu", 0)
    assert found.note == "Trained on the CPU: 1 GPU asked for, none found, and the profile allows it"


def test_a_learner_of_others_that_knows_no_gpu(two: None) -> None:
    class Ridge:
        pass

    with pytest.raises(MillraceError, match="learner 'ridge' trains on the CPU only"):
        place(1, fallback=False, engine=Ridge(), learner="ridge")
    assert place(1, fallback=True, engine=Ridge(), learner="ridge").device == "cpu"


def test_what_means_say() -> None:
    assert asked_of(Means()) == (0, False)
    assert asked_of(Means(limits={"gpus": "2", "gpu_fallback": "cpu"})) == (2, True)
    for wrong in ({"gpus": "some"}, {"gpus": "-1"}, {"gpus": "1", "gpu_fallback": "tpu"}):
        with pytest.raises(ContractError):
            asked_of(Means(limits=wrong))


def test_a_build_without_cuda_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    import numpy as np
    import torch
    import xgboost

    from millrace.learners.checkpoints import Checkpoints
    from millrace.models.protocol import Column, Matrix, Settings

    monkeypatch.setattr(xgboost, "build_info", lambda: {"USE_CUDA": False})
    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: False)
    rows = Matrix((Column("x", "number"),), np.arange(4.0)[:, None], np.array([0.0, 1, 0, 1]))
    settings = Settings("binary", 7, 1, device="cuda", gpus=1)
    for params, name in ((XGBoostLearner(), "XGBoost"), (TorchMLPLearner(), "torch")):
        with pytest.raises(MillraceError, match=f"this build of {name} knows no GPU"):
            learner_of(params).fit(rows, rows, params, settings, Checkpoints(), lambda points: None)


@pytest.mark.parametrize("said", ["cudaErrorMemoryAllocation: out of memory", "std::bad_alloc"])
def test_too_little_memory_asks_for_more(monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    import numpy as np
    import xgboost

    from millrace.learners.checkpoints import Checkpoints
    from millrace.models.protocol import Column, Matrix, Settings

    def full(*args: object, **more: object) -> None:
        raise xgboost.core.XGBoostError(f"[12:00:00] somewhere.cu:5: {said}")

    monkeypatch.setattr(xgboost, "train", full)
    rows = Matrix((Column("x", "number"),), np.arange(4.0)[:, None], np.array([0.0, 1, 0, 1]))
    with pytest.raises(MemoryError, match="XGBoost ran out of memory"):
        XGBOOST.fit(rows, rows, XGBoostLearner(), Settings("binary", 7, 1), Checkpoints(), lambda points: None)

"""The whole server as processes, for tests; also one whose version 2 does what it should not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from support.served import Served

BREAKS = """
import ctypes, os, sys, time
import numpy as np
import millrace.models.xgboost as engine

whole = engine.Trees.predictor

def predictor(self, weights, columns, params, settings):
    predict = whole(self, weights, columns, params, settings)
    if settings.seed != 2:
        return predict
    def broken(rows):
        how = os.environ["BREAKS"]
        if how == "hangs":
            while True: pass
        if how == "crashes":
            ctypes.string_at(0)
        if how == "is slow":
            time.sleep(0.1)
            return predict(rows)
        if how == "raises":
            raise RuntimeError("broken")
        return np.full(len(rows), np.nan)
    return broken

engine.Trees.predictor = predictor
from millrace.serving.__main__ import main
"""
"""Version 2 was trained with seed 2; in these servers its model does what it should not."""


@contextmanager
def serving(
    served: Served, *arguments: str, breaks: str | None = None, name: str = "here", env: Mapping[str, str] = os.environ,
    store: str = "",
) -> Iterator[tuple[str, int]]:  # fmt: skip
    """A server on a free port: its address, and the id of its parent. What it says is in NAME.log. `store` is where
    that of `served` has been copied to."""
    command = (
        [sys.executable, "-c", f"{BREAKS}\nsys.exit(main(sys.argv[1:]))"]
        if breaks
        else [sys.executable, "-m", "millrace.serving"]
    )
    told = served.root / f"{name}.log"
    with told.open("a") as log:
        process = subprocess.Popen(
            [*command, "--store", store or served.store, "--online", served.online, "--log", str(served.root / "log"),
             "--port", "0", "--name", name, *arguments],
            env={**env, "BREAKS": breaks or ""}, stdout=subprocess.PIPE, stderr=log, text=True,
            start_new_session=True,
        )  # fmt: skip
        assert process.stdout is not None
        try:
            said = process.stdout.readline()
            assert said.startswith("Serving on "), told.read_text()[-3000:]
            yield said.removeprefix("Serving on ").strip(), process.pid
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(30)
            finally:
                process.kill()
                process.stdout.close()
    assert process.returncode == 0, told.read_text()[-3000:]

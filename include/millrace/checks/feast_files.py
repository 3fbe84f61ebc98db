"""Feast files, read by a process of their own while the rest is checked: Feast takes seconds to import."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable
from contextlib import redirect_stdout
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

from millrace.checks.words import attempt
from millrace.core.errors import SpecError
from millrace.spec.feast_file import Definitions, Source
from millrace.spec.yaml_file import read_text


class FeastFiles:
    """What the Feast files of some pipelines say. A process that has imported Feast anyway reads them itself."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self._read: dict[str, Any] | None = None
        self._process: subprocess.Popen[str] | None = None
        asked = [str(path) for path in paths if path.is_file()]
        if asked and "feast" not in sys.modules:
            # -P: what lies in the folder one is in is no library.
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "millrace.checks.feast_files"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            )  # fmt: skip
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps(asked))
            self._process.stdin.close()
            self._process.stdin = None

    def __enter__(self) -> FeastFiles:
        return self

    def __exit__(self, kind: type[BaseException] | None, err: BaseException | None, tb: TracebackType | None) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.communicate()

    def describe(self, path: Path) -> Definitions:
        """What one file says. Raises SpecError with a line for each mistake."""
        if self._process is None:
            return _definitions(_read(str(path)))
        if self._read is None:
            out, err = self._process.communicate()
            if self._process.returncode:
                last = err.strip().splitlines()[-1:] or [f"exit {self._process.returncode}"]
                raise SpecError(f"the process that reads it ended: {last[0]}", where=f"{path}:1")
            self._read = json.loads(out)
        return _definitions(self._read[str(path)])


def _read(path: str) -> dict[str, Any]:
    problems: list[str] = []
    try:
        from millrace.feast_stores.apply import describe
    except ModuleNotFoundError as err:
        return {"problems": [f"{path}:1: needs '{err.name}', which is not installed here; install millrace[jobs]"]}
    found = attempt(problems, lambda: describe(read_text(Path(path)), path))
    if found is not None:
        _compute(found, read_text(Path(path)), path)
    return {"problems": problems, "found": found and asdict(found)}


def _compute(found: Definitions, text: str, path: str) -> None:
    """Note what on-demand features of each service are made from; none is called."""
    from millrace.feast_stores.on_demand import on_demand_views
    from millrace.online.on_demand import made_from

    for service in found.services:
        try:
            views = on_demand_views(text, service, path)
        except SpecError as err:
            found.refused[service] = f"{err.where}: {err.message}" + (f" ({err.given})" if err.given else "")
        else:
            found.made_from[service] = [each.name for each in made_from(views)]
            found.computed[service] = [each.name for view in views for each in view.features]


def _definitions(read: dict[str, Any]) -> Definitions:
    if read["problems"]:
        raise SpecError("\n".join(read["problems"]))
    found = read["found"]
    return Definitions(**{**found, "sources": {view: Source(**source) for view, source in found["sources"].items()}})


if __name__ == "__main__":
    with redirect_stdout(sys.stderr):  # a Feast file may print
        answers = {path: _read(path) for path in json.load(sys.stdin)}
    json.dump(answers, sys.stdout)

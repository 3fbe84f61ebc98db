"""`make mutants`: break each invariant in a copy of the tree, and see a fast test fail. Ends with 1 if one survives.

python tests/mutants [--only WORD] [--list]
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from table import MUTANTS, Mutant

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("include", "tests", "dags", "plugins", "feature_repo", "demo", "bench", "docs", "pyproject.toml", "README.md")
"""What tests read. Code is imported from the copy, not from where the package is installed."""
FAILED = 1
"""pytest's word for: tests ran, and some failed. Any other end is no proof."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests/mutants", description=__doc__)
    parser.add_argument("--only", default="", help="mutants whose name holds this word")
    parser.add_argument("--list", action="store_true", help="name them and do nothing")
    args = parser.parse_args()
    chosen = [m for m in MUTANTS if args.only in m.name]
    if args.list:
        for mutant in chosen:
            print(f"{mutant.invariant:>3}  {mutant.name}: {mutant.file}")
        return 0
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        tree = Path(folder)
        for part in PARTS:
            source = ROOT / part
            ignored = shutil.ignore_patterns("__pycache__", ".millrace")
            shutil.copytree(source, tree / part, ignore=ignored) if source.is_dir() else shutil.copy(source, tree)
        for names in sorted({mutant.tests for mutant in chosen}):
            if (code := tests(tree, names)) != 0:
                print(f"on the tree as it is, pytest {' '.join(names)} ends with {code}")
                return 2
        survived = [mutant.name for mutant in chosen if not caught(tree, mutant)]
    print(f"{len(chosen) - len(survived)} passed, {len(survived)} failed")
    if survived:
        print(f"no fast test sees: {'; '.join(survived)}")
    return int(bool(survived))


def caught(tree: Path, mutant: Mutant) -> bool:
    path, began = tree / mutant.file, time.monotonic()
    text = path.read_text()
    if text.count(mutant.old) != 1:
        print(f"STALE     {mutant.name}: {mutant.file} holds the text {text.count(mutant.old)} times", flush=True)
        return False
    path.write_text(text.replace(mutant.old, mutant.new))
    try:
        code = tests(tree, mutant.tests)
    finally:
        path.write_text(text)
    word = "caught" if code == FAILED else f"SURVIVED ({code})"
    print(f"{word:9} {mutant.name} ({time.monotonic() - began:.0f} s)", flush=True)
    return code == FAILED


def tests(tree: Path, names: tuple[str, ...]) -> int:
    env = {**os.environ, "PYTHONPATH": str(tree / "include"), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *names]
    done = subprocess.run(command, cwd=tree, env=env, capture_output=True, text=True)
    if done.returncode not in (0, FAILED):
        print(done.stdout[-2000:] + done.stderr[-2000:])
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())

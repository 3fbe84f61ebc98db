"""Compile all modules below a folder that have no bytecode yet: the same bytes at every build.

The pyc files name their source by its hash, not its time, and are never checked against it. What marshal writes depends
on what the process has compiled before, so each package is compiled in a fork of its own, in the order of its names.
"""

import multiprocessing
import os
import py_compile
import sys
from importlib.util import cache_from_source
from pathlib import Path


def compile_package(sources):
    """Compile these files; templates and samples that are not Python are left as they are."""
    for source in sources:
        try:
            py_compile.compile(
                source, doraise=True, quiet=2, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH
            )
        except (py_compile.PyCompileError, ValueError, SyntaxError, RecursionError):
            continue


def main(root):
    packages = {}
    for site in sorted(Path(root).glob("lib/python*/site-packages")):
        for source in sorted(site.rglob("*.py")):
            if not os.path.exists(cache_from_source(str(source))):
                packages.setdefault(source.relative_to(site).parts[0], []).append(str(source))
    # The largest first, so that none of them is left over at the end.
    order = sorted(packages.values(), key=lambda sources: (-len(sources), sources[0]))
    with multiprocessing.get_context("fork").Pool(maxtasksperchild=1) as pool:
        pool.map(compile_package, order, chunksize=1)


if __name__ == "__main__":
    main(sys.argv[1])

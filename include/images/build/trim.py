"""Remove what packages bring and no image uses, and say how much that was."""

import shutil
import sys
from pathlib import Path

# Below site-packages. Test suites of libraries, headers and static libraries for compiling against them.
UNUSED = (
    "pandas/tests",
    "numpy/**/tests",
    "scipy/**/tests",
    "sklearn/**/tests",
    "statsmodels/**/tests",
    "pyarrow/tests",
    "matplotlib/tests",
    "dask/**/tests",
    "ibis/**/tests",
    "torch/include",
    "torch/share",
    "pyarrow/include",
    "numpy/_core/include",
    "**/*.a",
    "**/*.pxd",
    "**/*.js.map",
    "**/*.css.map",
)


def main(root):
    freed = 0
    for site in sorted(Path(root).glob("lib/python*/site-packages")):
        for pattern in UNUSED:
            for path in sorted(site.glob(pattern)):
                if not path.exists():  # went with a folder above it
                    continue
                freed += size(path)
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    sys.stderr.write(f"trim: {freed / 2**20:.0f} MB of tests, headers and static libraries removed\n")


def size(path):
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(f.lstat().st_size for f in files if not f.is_dir())


if __name__ == "__main__":
    main(sys.argv[1])

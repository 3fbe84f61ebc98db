#!/usr/bin/env python3
"""Digest of the files below folders: paths, modes, links and bytes, but no times and no owners. Prints one line.

`docker run --rm --entrypoint python IMAGE - /opt/millrace < include/images/digest.py` tells whether two builds
installed the same; with --list, one line a file, to see where they differ.
"""

import hashlib
import os
import sys
from pathlib import Path


def entries(folder):
    """`mode digest path` of every file and link, in the order of paths."""
    for path in sorted(Path(folder).rglob("*")):
        if path.is_symlink():
            yield f"link {os.readlink(path)} {path}"
        elif path.is_file():
            mode = path.stat().st_mode & 0o777
            yield f"{mode:o} {hashlib.sha256(path.read_bytes()).hexdigest()} {path}"


def main(words):
    """Print the digest, or with --list what it is of."""
    lines = [line for folder in words if folder != "--list" for line in entries(folder)]
    if "--list" in words:
        sys.stdout.write("\n".join(lines) + "\n")
    else:
        sys.stdout.write(f"sha256:{hashlib.sha256(chr(10).join(lines).encode()).hexdigest()} {len(lines)} files\n")


if __name__ == "__main__":
    main(sys.argv[1:])

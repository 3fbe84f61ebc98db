"""Give a CUDA build of torch hollow libraries in place of CUDA's, for an image that runs on CPUs only.

A CUDA build cannot be imported without NVIDIA's libraries, more than 2 GB that a CPU never calls. Here each one that is
missing becomes a library with the same name, versions and functions, which do nothing and return 100 (for the CUDA
runtime: no device), so that torch finds no GPU. A torch that was built for CPUs misses nothing and stays as it is.
Needs gcc and readelf.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

CUDA = re.compile(r"lib(cu|nv|nccl)[A-Za-z_]*\.so(\.\d+)*$")
SOURCE = """
static const char nothing[] = "this image has no CUDA";
int millrace_hollow(void) { return 100; }
const char *millrace_hollow_text(void) { return nothing; }
"""


def readelf(*words):
    return subprocess.run(["readelf", "-W", *words], capture_output=True, text=True, check=True).stdout


def main(root):
    (lib,) = Path(root).glob("lib/python*/site-packages/torch/lib")
    objects = sorted(lib.glob("*.so*"))
    present = {path.name for path in lib.parents[1].rglob("*.so*")}
    missing, symbols = set(), {}
    for path in objects:
        needed = set(re.findall(r"\(NEEDED\).*\[(.+)\]", readelf("-d", str(path))))
        missing |= {name for name in needed if CUDA.match(name) and name not in present}
    if not missing:
        sys.stderr.write("hollow: torch misses no library\n")
        return
    for path in objects:
        owner = owners(path)
        for name, version in re.findall(r"\bUND (\w+)(?:@(\S+))?", readelf("--dyn-syms", str(path))):
            if version and owner.get(version) in missing:
                symbols.setdefault(owner[version], {}).setdefault(version, set()).add(name)
            elif not version and re.match(r"(cu|nv|nccl|__cu)", name):
                # Without a version any library may have it.
                symbols.setdefault(min(missing), {}).setdefault("", set()).add(name)
    for name in sorted(missing):
        build(lib / name, symbols.get(name, {}))
    sys.stderr.write(f"hollow: {', '.join(sorted(missing))}\n")


def owners(path):
    """Version of a symbol -> the library that is to have it."""
    found, library = {}, ""
    for line in readelf("-V", str(path)).splitlines():
        if named := re.search(r"File: (\S+)", line):
            library = named[1]
        elif version := re.search(r"Name: (\S+) +Flags", line):
            found[version[1]] = library
    return found


def build(target, versions):
    """Compile a library that exports the names of each version."""
    lines, script = [SOURCE], []
    for version, names in sorted(versions.items()):
        for name in sorted(names):
            to = "millrace_hollow_text" if re.search("String|Name$", name) else "millrace_hollow"
            lines.append(f'__asm__(".globl {name}\\n.set {name}, {to}\\n.type {name}, @function");')
        if version:
            script.append(f"{version} {{ global: {' '.join(f'{name};' for name in sorted(names))} }};")
    with tempfile.TemporaryDirectory() as folder:
        source, map_ = Path(folder) / "hollow.c", Path(folder) / "hollow.map"
        source.write_text("\n".join(lines) + "\n")
        map_.write_text("\n".join(script) + "\n")
        options = [f"-Wl,--version-script={map_}"] if script else []
        subprocess.run(
            ["gcc", "-shared", "-fPIC", "-Os", "-nostdlib", "-Wl,--build-id=none", f"-Wl,-soname,{target.name}",
             *options, "-o", str(target), str(source)],
            check=True,
        )  # fmt: skip


if __name__ == "__main__":
    main(sys.argv[1])

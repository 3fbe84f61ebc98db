"""A Docker engine to test with, Millrace's images on it, and stand-ins for images that cannot be pulled."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
STANDINS = Path(__file__).with_name("standins")
VERSITYGW = "github.com/versity/versitygw/cmd/versitygw"
LABEL = "io.millrace.stand-in"
BUILD_S = 900


def docker(
    *words: str, timeout: float = 300, check: bool = True, **options: object
) -> subprocess.CompletedProcess[str]:
    """Run docker; a failure shows what it said."""
    done = subprocess.run(["docker", *words], capture_output=True, text=True, timeout=timeout, **options)  # type: ignore[call-overload]
    assert not check or done.returncode == 0, f"docker {' '.join(words)}:\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
    return done


@cache
def missing() -> str | None:
    """Why there is no engine to test with, None where there is one."""
    if not os.environ.get("DOCKER_HOST"):
        return "no Docker engine: set DOCKER_HOST to the engine that tests may use"
    if not shutil.which("docker"):
        return "no Docker engine: there is no docker command"
    for words in (["info"], ["compose", "version"], ["buildx", "version"]):
        done = docker(*words, check=False, timeout=60)
        if done.returncode:
            return f"no usable Docker engine at {os.environ['DOCKER_HOST']}: 'docker {' '.join(words)}' failed"
    return None


@cache
def image(name: str) -> str:
    """Tag of Millrace's image of the code that lies here, built where it is not there yet."""
    built = subprocess.run(
        [ROOT / "include" / "images" / "build.sh", sys.executable, name],
        capture_output=True,
        text=True,
        timeout=2 * BUILD_S,
    )
    assert built.returncode == 0, built.stdout[-2000:] + built.stderr[-6000:]
    return re.search(rf"^(millrace-{name}:\S+): ", built.stdout, re.M)[1]


@cache
def third_party(tag: str) -> str:
    """Make sure that an image that is not ours is there; returns 'pulled' or 'stand-in'."""
    kind = _there(tag)
    if kind is None and docker("pull", "--quiet", tag, check=False).returncode:
        _build(tag)
    kind = _there(tag)
    assert kind is not None
    print(f"image {tag}: {'as named' if kind == 'pulled' else 'a stand-in built from packages'}")
    return kind


def _there(tag: str) -> str | None:
    found = docker("image", "inspect", "--format", f'{{{{index .Config.Labels "{LABEL}"}}}}', tag, check=False)
    if found.returncode:
        return None
    return "stand-in" if found.stdout.strip() == "yes" else "pulled"


def _build(tag: str) -> None:
    name = tag.partition(":")[0].rpartition("/")[2]
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(STANDINS, folder, dirs_exist_ok=True)
        if name == "versitygw":
            env = {**os.environ, "GOBIN": folder, "CGO_ENABLED": "0"}
            version = tag.partition(":")[2]
            subprocess.run(["go", "install", f"{VERSITYGW}@{version}"], env=env, check=True, timeout=BUILD_S)
        words = ["build", "--network=host", "--label", f"{LABEL}=yes", "--tag", tag]
        env = {**os.environ, "DOCKER_BUILDKIT": "1"}
        docker(*words, "--file", f"{folder}/{name}.Dockerfile", folder, timeout=BUILD_S, env=env)

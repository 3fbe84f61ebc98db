"""What the images hold and how they behave: any user, read-only root, signals, labels, the same files every time."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from docker_engine import ROOT, docker, image

from millrace import __version__
from millrace.contract import CONTRACT_VERSION, code_digest

pytestmark = pytest.mark.timeout(1200)
RESTRICTED = ("--user", "4321:8765", "--read-only", "--tmpfs", "/tmp:mode=1777", "--cap-drop", "ALL",
              "--network", "none", "--security-opt", "no-new-privileges")  # fmt: skip
ENGINES = (
    "duckdb, evidently, feast, great_expectations, matplotlib.pyplot, mlflow, torch, xgboost, pyarrow, redis, psycopg"
)


def python(name: str, code: str, *words: str) -> str:
    return docker(
        "run", "--rm", *RESTRICTED, *words, "--entrypoint", "python", image(name), "-W", "ignore", "-c", code
    ).stdout


@pytest.mark.parametrize("name", ["jobs", "platform"])
def test_an_image_is_for_any_user_and_says_what_it_is(name):
    config = json.loads(docker("inspect", image(name)).stdout)[0]["Config"]
    assert config["User"] == "10001:0"
    assert config["Labels"]["io.millrace.code-digest"] == code_digest()
    assert config["Labels"]["io.millrace.contract"] == CONTRACT_VERSION
    assert config["Labels"]["org.opencontainers.image.version"] == __version__
    said = python(name, f"import {ENGINES}; from millrace.contract import code_digest as d; print(d())")
    assert said.split()[-1] == code_digest()


def test_the_jobs_image_has_no_airflow_and_the_platform_has():
    found = "import importlib.util as u; print(bool(u.find_spec('airflow')))"
    assert python("jobs", found).split() == ["False"]
    assert python("platform", found).split() == ["True"]


@pytest.mark.parametrize("name", ["jobs", "platform"])
def test_no_compiler_no_cache_and_nothing_left_to_compile(name):
    code = """
import os, shutil
from importlib.util import cache_from_source
from pathlib import Path
left = [n for n in ("gcc", "cc", "g++", "uv", "readelf") if shutil.which(n)]
left += [str(p) for f in ("/root/.cache", "/src", "/build", "/uv") for p in Path(f).glob("*")]  # mounts leave a folder
left += [str(p) for p in Path("/var/lib/apt/lists").glob("*_Packages")]
site = next(Path("/opt/millrace/lib").glob("python3*/site-packages"))
bare = [p for p in site.rglob("*.py") if not os.path.exists(cache_from_source(str(p)))]
# 1: by hash, never checked against its source
kinds = {int.from_bytes(p.read_bytes()[4:8], "little") for p in site.rglob("*.pyc")}
print(left, [str(p) for p in bare][:9], kinds, os.environ.get("CUDA_VISIBLE_DEVICES"))
"""
    left, rest = docker("run", "--rm", "--user", "0", "--entrypoint", "python", image(name), "-c", code).stdout.split(
        "] ", 1
    )
    assert left == "["
    bare, kinds = rest.rsplit("] ", 1)
    assert bare.count("site-packages") <= 3, bare  # samples that are no Python
    assert kinds.strip() == "{1}"


def test_a_job_under_process_id_1_ends_at_once_when_asked_to(tmp_path):
    os.mkfifo(tmp_path / "request")  # nobody writes: the job waits for its request
    tmp_path.chmod(0o777)
    (tmp_path / "request").chmod(0o666)
    started = docker("run", "--detach", *RESTRICTED, "--volume", f"{tmp_path}:/work", image("jobs"), "train",
                     "--request", "/work/request", "--result", "/work/result").stdout.strip()  # fmt: skip
    try:
        time.sleep(3)
        assert docker("inspect", "--format", "{{.State.Running}}", started).stdout.strip() == "true"
        began = time.monotonic()
        docker("stop", "--time", "30", started)
        assert time.monotonic() - began < 8
        # neither killed (137) nor done (0)
        assert docker("inspect", "--format", "{{.State.ExitCode}}", started).stdout.strip() not in ("0", "137")
    finally:
        docker("rm", "--force", started)


def test_a_request_that_cannot_be_read_is_exit_2():
    done = docker(
        "run", "--rm", *RESTRICTED, image("jobs"), "train", "--request", "/none", "--result", "/tmp/r", check=False
    )
    assert done.returncode == 2 and "cannot read the request" in done.stderr


def test_torch_finds_no_gpu_and_says_so():
    code = """
import torch
assert not torch.cuda.is_available()
try:
    torch.zeros(1).cuda()
except Exception as err:
    print(type(err).__name__)
"""
    assert python("jobs", code).split()[-1] in ("RuntimeError", "AssertionError")


def test_two_builds_install_the_same_files():
    digest = (ROOT / "include" / "images" / "digest.py").read_text()
    again = "millrace-jobs:built-again"
    ca = os.environ.get("SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt")
    secret = ["--secret", f"id=ca,src={ca}"] if Path(ca).is_file() else []
    # Without a cache the stages that install; the compiler and uv of the stage before them are in no image
    docker("buildx", "build", "--load", "--no-cache-filter", "engines,code", "--network=host", *secret,
           "--build-arg", f"CODE_DIGEST={code_digest()}", "--file", "include/images/Dockerfile", "--target", "jobs",
           "--tag", again, ".", cwd=ROOT, timeout=1000)  # fmt: skip
    try:
        words = ["run", "--rm", "--interactive", "--user", "0", "--entrypoint", "python"]
        first, second = (
            docker(*words, tag, "-", "/opt/millrace", input=digest).stdout for tag in (image("jobs"), again)
        )
        if first != second:
            lists = [set(docker(*words, tag, "-", "--list", "/opt/millrace", input=digest).stdout.splitlines())
                     for tag in (image("jobs"), again)]  # fmt: skip
            pytest.fail("differing files:\n" + "\n".join(sorted(lists[0] ^ lists[1])[:40]))
        assert int(first.split()[1]) > 10_000
    finally:
        docker("image", "rm", again)

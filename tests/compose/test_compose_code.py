"""The server of a pipeline with code, as docker-compose.code.yaml adds it: what it has is nobody else's."""

from __future__ import annotations

import asyncio
import json
import re
import runpy
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import redis
import yaml
from support.running import until

from millrace.core.errors import Unavailable
from millrace.core.settings import OTHERS
from millrace.local.processes import free_ports
from millrace.online.reader import Found, open_reader
from millrace.online.redis import value_of
from millrace.serving.access import Access

ROOT = Path(__file__).resolve().parents[2]
STACK = ROOT / "include" / "images" / "stack.py"
SERVER = ROOT / "include" / "millrace" / "serving" / "__main__.py"
BASE = yaml.safe_load((ROOT / "docker-compose.yaml").read_text())
MORE = yaml.safe_load((ROOT / "docker-compose.code.yaml").read_text())
CODE = MORE["services"]["serving-code"]


def test_it_shares_no_secret_with_another_service():
    others = {name for service in BASE["services"].values() for name in service.get("secrets", ())}
    assert not set(CODE["secrets"]) & others
    # nor does another get its own; S3 and Redis know its passwords, which they must compare
    added = {name: service.get("secrets", []) for name, service in MORE["services"].items() if name != "serving-code"}
    assert added == {"s3": [{"source": "s3-users", "target": "/run/s3-users/users.json"}], "redis": ["redis-users"],
                     "prepare": [], "serving": []}  # fmt: skip
    files = [each["file"] for each in MORE["secrets"].values()]
    assert len(set(files)) == len(files) and not set(files) & {each["file"] for each in BASE["secrets"].values()}


def test_it_is_closed_and_bounded():
    assert CODE["read_only"] is True and CODE["cap_drop"] == ["ALL"]
    assert CODE["security_opt"] == ["no-new-privileges:true"] and CODE["user"] == "10001:0"
    assert set(CODE["deploy"]["resources"]["limits"]) == {"cpus", "memory", "pids"}
    assert [port.startswith("${BIND}:") for port in CODE["ports"]] == [True]


def test_it_reaches_redis_and_s3_and_nothing_of_airflows():
    networks = {name: set(service.get("networks", ())) for name, service in BASE["services"].items()}
    for name, service in MORE["services"].items():
        networks.setdefault(name, set()).update(service.get("networks", ()))
    near = {name for name, of in networks.items() if of & networks["serving-code"]} - {"serving-code"}
    assert near == {"redis", "s3"}
    names = set(CODE["environment"])
    assert not {name for name in names if name.startswith(("AIRFLOW", "MLFLOW", "PG", "MILLRACE_LEDGER"))}
    assert {name for name in names if name.startswith("MILLRACE_")} <= OTHERS | {"MILLRACE_STORE"}
    assert names == set(BASE["services"]["serving"]["environment"])


def test_it_serves_its_pipeline_and_the_shared_server_does_not():
    words = CODE["command"]
    assert words[words.index("--code") :] == ["--code", "--only", "${CODE_PIPELINE}"]
    shared = MORE["services"]["serving"]["command"]
    assert shared == [*BASE["services"]["serving"]["command"], "--except", "${CODE_PIPELINE}"]
    told = {word for word in (*words, *shared) if word.startswith("--")}
    assert told <= set(re.findall(r'"(--[a-z-]+)"', SERVER.read_text()))


def written(folder: Path, pipeline: str = "orders", features: tuple[str, ...] = ("p_a", "p_b")) -> dict[str, str]:
    module: dict[str, Any] = runpy.run_path(str(STACK))
    module["write_secrets"](folder)
    module["write_code_secrets"](folder, pipeline, list(features))
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_its_secrets_are_its_own_and_stay(tmp_path: Path):
    first = written(tmp_path)
    assert {each["file"].rpartition("/")[2] for each in MORE["secrets"].values()} <= set(first)
    (user,) = json.loads(first["s3-users"])["accessAccounts"].values()
    assert f"aws_access_key_id = orders\naws_secret_access_key = {user['secret']}\n" in first["code-aws-credentials"]
    # `user` is a role that may do what policies say; `admin` may do everything
    assert user == {"access": "orders", "secret": user["secret"], "role": "user"} and len(user["secret"]) > 30
    assert user["secret"] not in first["aws-credentials"] + first["s3-secret-key"]
    rule = f"user orders on >{first['code-redis-password']} resetkeys resetchannels ~p_a ~p_b -@all +hmget\n"
    assert first["redis-users"] == rule and first["code-redis-password"] != first["redis-password"]
    again = written(tmp_path)
    assert again == first
    # which rows it reads may change, and its keys stay
    changed = written(tmp_path, features=("p_c",))
    assert {name for name in changed if changed[name] != first[name]} == {"redis-users"}


def test_its_token_counts_for_its_pipeline_alone(tmp_path: Path):
    files = written(tmp_path)
    for name, mine, others in (("code", ["orders"], ["flights"]), ("serving", ["orders", "flights"], [])):
        access = Access.load(tmp_path / f"{name}-tokens", environ={})
        caller = asyncio.run(access.caller({b"authorization": f"Bearer {files[f'{name}-token']}".encode()}))
        assert all(caller.may(each) for each in mine) and not any(caller.may(each) for each in others)
    assert files["code-token"] != files["serving-token"]


@pytest.mark.parametrize(
    ("pipeline", "features"), [("orders", ()), ("orders", ("*",)), ("orders +@all", ("a",)), ("orders", ("a\nuser",))]
)
def test_what_would_open_more_is_refused(tmp_path: Path, pipeline: str, features: tuple[str, ...]):
    with pytest.raises(SystemExit, match="CODE_FEATURES"):
        written(tmp_path, pipeline, features)


def test_its_user_of_redis_reads_its_rows_and_can_do_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    if shutil.which("redis-server") is None:
        pytest.skip("no Redis server here (Debian package redis-server)")
    written(tmp_path)
    (tmp_path / "data").mkdir()
    (port,) = free_ports(1)
    # The words that the service of the stack runs, on this machine
    words = BASE["services"]["redis"]["entrypoint"][2].replace("$$", "$").replace("/run/secrets", str(tmp_path))
    words = words.replace("--dir /data", f"--dir {tmp_path}/data --bind 127.0.0.1 --port {port}")
    with subprocess.Popen(["sh", "-c", words], stdout=subprocess.DEVNULL) as server:
        try:
            admin = redis.Redis(port=port, password=(tmp_path / "redis-password").read_text())
            until(lambda: answers(admin), 20)
            for name in ("p_a", "p_c"):
                admin.hset(name, b"k", value_of((1, 0, 0), b"x"))
            password = (tmp_path / "code-redis-password").read_text()
            monkeypatch.setenv("REDISCLI_AUTH", password)
            assert asyncio.run(read(f"redis://orders@127.0.0.1:{port}/0", "p_a")) == {b"k": (1, b"x")}
            with pytest.raises(Unavailable, match="NoPermission"):
                asyncio.run(read(f"redis://orders@127.0.0.1:{port}/0", "p_c"))
            theirs = redis.Redis(port=port, username="orders", password=password)
            for command in ("KEYS *", "HGETALL p_a", "HSET p_a k x", "DEL p_a", "CONFIG GET *", "ACL LIST", "FLUSHALL"):
                with pytest.raises(redis.exceptions.NoPermissionError):
                    theirs.execute_command(*command.split())
        finally:
            server.terminate()


def answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.exceptions.ConnectionError:
        return False


async def read(address: str, table: str) -> Found:
    reader = open_reader(address, timeout_s=5)
    try:
        return await reader.fetch(table, [b"k"])
    finally:
        await reader.close()

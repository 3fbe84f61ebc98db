"""A server imports what answers and nothing that trains or orchestrates; one with a model takes little memory."""

from __future__ import annotations

import json
import subprocess
import sys

from support.served import Served

HEAVY = ["pandas", "sklearn", "feast", "mlflow", "airflow", "duckdb", "pyarrow", "great_expectations", "evidently",
         "sqlalchemy", "boto3", "torch", "google.protobuf", "grpc", "fastapi", "openfeature", "millrace.jobs",
         "millrace.ledger", "millrace.sql", "millrace.feast_stores", "millrace.learners", "millrace.airflow",
         "millrace.cli"]  # fmt: skip
MOST_MB = 130
"""Of memory; a lean image has 10 MB less, without what is installed here beside it."""
SERVE = """
import asyncio, json, sys
from millrace.serving.server import Server, ServerOptions
from millrace.serving.access import Access
import uvicorn

options, heavy = json.loads(sys.argv[1])

async def main():
    server = Server(ServerOptions(**options), Access())
    server.follower.look()
    server.app.inference.answerer = await server.begin()
    body = json.dumps({"entities": [{"vehicle": "v1"}]}).encode()
    sent = []
    async def receive(): return {"type": "http.request", "body": body}
    async def send(message): sent.append(message)
    await server.app({"type": "http", "method": "POST", "path": "/predict/trips", "headers": []}, receive, send)
    pages = int(open("/proc/self/statm").read().split()[1])
    print(json.dumps([sent[0]["status"], pages * 4096 / 1e6, [name for name in heavy if name in sys.modules]]))
    await server.end()

asyncio.run(main())
"""


def test_a_server_imports_only_what_answers(served: Served):
    served.plan()
    options = {"store": served.store, "online": served.online, "log": str(served.root / "log"), "name": "x"}
    done = subprocess.run(
        [sys.executable, "-c", SERVE, json.dumps([options, HEAVY])], capture_output=True, text=True, timeout=120
    )

    assert done.returncode == 0, done.stderr[-3000:]
    status, megabytes, imported = json.loads(done.stdout)
    assert status == 200 and imported == [] and megabytes < MOST_MB, (status, imported, megabytes)

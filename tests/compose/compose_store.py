"""The stack's store and online store as a test reads and writes them: through the scheduler, which reaches both."""

from __future__ import annotations

import base64
import json
import sqlite3
from collections.abc import Mapping

from compose_stack import Stack
from support.served import Served

from millrace.online.redis import value_of

_OPEN = """
import base64, json, os
from pathlib import Path
from millrace.core.settings import Settings
from millrace.store import open_store
settings = Settings.load(Path("/project"))
objects = open_store(settings.store)
"""
_PUT = """
for key, data in json.loads({given!r}).items():
    objects.put(key, base64.b64decode(data))
print("null")
"""
_GET = """
found = list(objects.list({given!r}))
print(json.dumps({{each.key: base64.b64encode(objects.get(each.key)).decode() for each in found}}))
"""
_ONLINE = """
import redis
client = redis.Redis.from_url(settings.feast_online, password=os.environ["REDISCLI_AUTH"])
for table, key, value in json.loads({given!r}):
    client.hset(table, base64.b64decode(key), base64.b64decode(value))
print("null")
"""


class InStack:
    """The stack's prediction server as a place where traffic is replayed; see `support.recorded.Place`."""

    def __init__(self, stack: Stack) -> None:
        self._stack, self.address, self.token = stack, stack.serving, stack.token

    def put(self, objects: Mapping[str, bytes]) -> None:
        packed = {key: base64.b64encode(data).decode() for key, data in objects.items()}
        self._stack.python(_OPEN + _PUT.format(given=json.dumps(packed)))

    def get(self, prefix: str) -> dict[str, bytes]:
        found = self._stack.python(_OPEN + _GET.format(given=prefix))
        return {key: base64.b64decode(data) for key, data in found.items()}


def put_online(stack: Stack, served: Served) -> None:
    """Copy the online rows of a served pipeline into the stack's Redis."""
    with sqlite3.connect(served.online) as rows:
        packed = [
            [view.table, *(base64.b64encode(each).decode() for each in (key, value_of((event, 0, 0), features)))]
            for view in served.views
            for key, event, features in rows.execute(f'SELECT entity_key, event_us, features FROM "{view.table}"')
        ]
    stack.python(_OPEN + _ONLINE.format(given=json.dumps(packed)))

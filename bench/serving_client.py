"""A client for measuring servers: keep-alive HTTP over plain sockets, so that it takes little of what they are measured
on. Each line of its input is an order in JSON, each line of its output what came of it.

An order has `port`, `path` or `paths`, and `bodies` (each sent in turn), `connections`, `seconds`, and `headers`. Each
connection asks again as soon as it has its answer. An answer that is not a 200 ends the order, and is its error.
"""

from __future__ import annotations

import json
import selectors
import socket
import sys
from time import perf_counter
from typing import Any


def run(order: dict[str, Any]) -> dict[str, Any]:
    """Ask as ordered; gives requests, seconds, and the milliseconds of each answer."""
    extra = "".join(f"{name}: {value}\r\n" for name, value in order.get("headers", {}).items())
    head = f" HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\n{extra}content-length: "
    paths, bodies = order.get("paths") or [order["path"]], order["bodies"]
    asks = [(paths[n % len(paths)], bodies[n % len(bodies)]) for n in range(max(len(paths), len(bodies)))]
    requests = [f"POST {path}{head}{len(body)}\r\n\r\n{body}".encode() for path, body in asks]
    waiting = selectors.DefaultSelector()
    connections = []
    for _ in range(order["connections"]):
        connection = socket.create_connection(("127.0.0.1", order["port"]), 30)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        waiting.register(connection, selectors.EVENT_READ)
        connections.append(connection)
    begun: dict[socket.socket, float] = {}
    got: dict[socket.socket, bytes] = dict.fromkeys(connections, b"")
    took: list[float] = []
    asked = 0
    began = perf_counter()
    end = began + order["seconds"]
    try:
        for connection in connections:
            begun[connection] = perf_counter()
            connection.sendall(requests[asked % len(requests)])
            asked += 1
        while begun:
            ready = waiting.select(30)
            if not ready:
                return {"error": "no answer for 30 s"}
            for key, _ in ready:
                connection = key.fileobj
                data = connection.recv(1 << 18)
                if not data:
                    return {"error": f"the server closed the connection after {len(took)} answers"}
                data = got[connection] + data
                if not _whole(data):
                    got[connection] = data
                    continue
                got[connection] = b""
                if not data.startswith(b"HTTP/1.1 200"):
                    return {"error": data[:2000].decode("utf-8", "replace")}
                now = perf_counter()
                took.append((now - begun.pop(connection)) * 1000)
                if now < end:
                    begun[connection] = perf_counter()
                    connection.sendall(requests[asked % len(requests)])
                    asked += 1
        return {"count": len(took), "seconds": perf_counter() - began, "took": took, "last": data.decode()[-4000:]}
    finally:
        for connection in connections:
            connection.close()
        waiting.close()


def _whole(data: bytes) -> bool:
    """Whether an answer is there to its end."""
    at = data.find(b"\r\n\r\n")
    if at < 0:
        return False
    head = data[:at].lower()
    if (length := head.find(b"content-length:")) >= 0:
        return len(data) - at - 4 >= int(head[length + 15 :].split(b"\r\n", 1)[0])
    return data.endswith(b"0\r\n\r\n")  # in chunks


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(run(json.loads(line))), flush=True)

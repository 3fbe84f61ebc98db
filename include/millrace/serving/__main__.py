"""`python -m millrace.serving`: the server alone, without the command line of projects, as an image runs it."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path

from millrace.core.errors import MillraceError
from millrace.serving.access import Access
from millrace.serving.serve import serve
from millrace.serving.server import ServerOptions
from millrace.serving.workers import Tls


def main(arguments: list[str]) -> int:
    """Serve as the arguments say; what they leave out comes from MILLRACE_STORE and MILLRACE_FEAST_ONLINE."""
    parser = argparse.ArgumentParser(prog="python -m millrace.serving", description=__doc__)
    parser.add_argument("--store", default=os.environ.get("MILLRACE_STORE"), help="folder or s3://bucket/prefix")
    parser.add_argument("--online", default=os.environ.get("MILLRACE_FEAST_ONLINE", ""), help="online store's address")
    parser.add_argument("--log", type=Path, required=True, help="folder of the prediction log")
    parser.add_argument(
        "--buffered", action="store_true", help="wait for the disk for no pipeline, whatever its spec says"
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8800, help="0: any free one")
    parser.add_argument("--grpc-port", type=int, help="answer gRPC too, on this port; 0: any free one")
    parser.add_argument("--workers", type=int, default=1, help="processes that answer")
    parser.add_argument("--memory-mb", type=int, default=1024, help="for loaded models, of each process")
    parser.add_argument("--only", action="append", default=[], metavar="PIPELINE", help="serve this one; repeatable")
    parser.add_argument(
        "--except", action="append", default=[], dest="apart", metavar="PIPELINE",
        help="leave this one to a server of its own; repeatable",
    )  # fmt: skip
    parser.add_argument(
        "--code", action="store_true", help="open models with code of their own (trainer.py), of the one --only"
    )
    parser.add_argument("--name", help="of this server among its replicas; its host's if left out")
    parser.add_argument("--tls-certificate", type=Path)
    parser.add_argument("--tls-key", type=Path)
    parser.add_argument("--tokens", type=Path, help="file of callers' tokens; else MILLRACE_SERVING_TOKENS")
    parser.add_argument("--oidc", type=Path, help="file that names an issuer; else MILLRACE_SERVING_OIDC")
    parser.add_argument("--drain", type=float, default=30.0, help="seconds for what was begun when asked to leave")
    parser.add_argument("--hang", type=float, default=5.0, help="seconds after which a worker that does nothing hangs")
    parser.add_argument("--shadow-hang", type=float, default=30.0, help="the same of the process of shadows")
    given = parser.parse_args(arguments)
    if not given.store:
        parser.error("--store (or MILLRACE_STORE) says where the models and plans are")
    if (given.tls_certificate is None) != (given.tls_key is None):
        parser.error("--tls-certificate and --tls-key belong together")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        options = ServerOptions(
            store=given.store, online=given.online, log=given.log, durable=not given.buffered,
            memory=given.memory_mb << 20, only=tuple(given.only), apart=tuple(given.apart),
            code=given.code,
            **({"name": given.name} if given.name else {}),
        )  # fmt: skip
        tls = Tls(given.tls_certificate, given.tls_key) if given.tls_certificate else None
        serve(
            options, Access.load(given.tokens, given.oidc), host=given.host, port=given.port,
            grpc_port=given.grpc_port, workers=given.workers, tls=tls,
            drain_s=given.drain, hang_s=given.hang, shadow_hang_s=given.shadow_hang,
            ready=lambda address: print(f"Serving on {address}", flush=True),
        )  # fmt: skip
    except (MillraceError, ValueError) as err:
        print(f"millrace: {err}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

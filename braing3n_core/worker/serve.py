"""Running a worker: the socket, TLS, the announcement, and its end."""

from __future__ import annotations

import ipaddress
import json
import os
import socket
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from ..errors import ConfigError
from .app import Worker, create_app
from .certificate import fingerprint_of
from .patience import ImpatientProtocol
from .settings import Settings


@dataclass(frozen=True)
class Address:
    """Where a worker listens. port 0: any that is free. cert, key: PEM files for TLS."""

    host: str = "127.0.0.1"
    port: int = 8765
    cert: Path | None = None
    key: Path | None = None

    @property
    def url(self) -> str:
        scheme = "https" if self.cert else "http"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{scheme}://{host}:{self.port}"


def check_address(address: Address, settings: Settings, has_token: bool) -> None:
    """Refuse to be reachable from other machines without token and TLS. Raises ConfigError."""
    if (address.cert is None) != (address.key is None):
        raise ConfigError("worker.tls", "A certificate and its key belong together.", "Give --tls-cert and --tls-key.")
    for path in (address.cert, address.key):
        if path is not None and not path.is_file():
            raise ConfigError("worker.tls", f"There is no file {path}.", "Make one with `braing3n worker init`.")
    if is_loopback(address.host):
        return
    if not has_token:
        raise ConfigError("worker.token", f"{address.host} can be reached from other machines, and there is no token.",
                          "Run `braing3n worker init` first.")  # fmt: skip
    if address.cert is None and not settings.behind_proxy:
        raise ConfigError("worker.tls", f"{address.host} can be reached from other machines, and there is no TLS.",
                          "Give --tls-cert and --tls-key (see `braing3n worker init`), or --behind-proxy when a proxy "
                          "does TLS.")  # fmt: skip


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def serve(worker: Worker, address: Address, announce: bool = False, until_stdin_closes: bool = False) -> None:
    """Serve until SIGTERM or SIGINT. announce: say the URL as one line of JSON on standard output when listening."""
    listening = _listen(address)
    address = Address(address.host, listening.getsockname()[1], address.cert, address.key)
    config = uvicorn.Config(
        create_app(worker), log_level="warning", access_log=False, server_header=False, proxy_headers=False,
        timeout_keep_alive=30, timeout_graceful_shutdown=3, h11_max_incomplete_event_size=32 * 1024,
        ssl_certfile=address.cert, ssl_keyfile=address.key, lifespan="on", http=ImpatientProtocol,
        ws="none", backlog=512,
    )  # fmt: skip
    config.load()
    if config.ssl is not None:
        import ssl

        config.ssl.minimum_version = ssl.TLSVersion.TLSv1_2
    server = uvicorn.Server(config)
    if until_stdin_closes:
        threading.Thread(target=_watch_stdin, args=(server,), daemon=True).start()
    if announce:
        print_fingerprint = fingerprint_of(address.cert) if address.cert else None
        sys.stdout.write(json.dumps({"url": address.url, "fingerprint": print_fingerprint}) + "\n")
        sys.stdout.flush()
    server.run(sockets=[listening])


def _listen(address: Address) -> socket.socket:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    # asyncio switches Nagle's algorithm off only where the protocol is named: with it each answer waits 40 ms for the
    # client's acknowledgement of its headers.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    if os.name != "nt":
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((address.host, address.port))
        listening.listen(512)
    except OSError as error:
        listening.close()
        raise ConfigError("worker.port", f"Cannot listen on {address.host}:{address.port}: {error.strerror}.",
                          "Choose another --port.") from error  # fmt: skip
    return listening


def _watch_stdin(server: uvicorn.Server) -> None:
    """The parent keeps a pipe to us open; when it closes, the parent has gone."""
    while sys.stdin.buffer.read(1):
        pass
    server.should_exit = True

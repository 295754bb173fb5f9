"""The worker on Ray Serve, where Ray already runs: ``serve run braing3n_core.worker.ray_app:app spool=DIR gpus=4``.

One replica holds the API and the spool, and an executor on each GPU that Ray gives it. Ray's proxy listens, so it also
is what speaks TLS and bounds slow senders of headers (docs/worker.md). Needs the extra ``ray``.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from ray import serve

from ..errors import ConfigError
from .app import Worker, create_app
from .command import spool_folder
from .settings import Settings
from .store import Database
from .tokens import TokenStore

REPLICA = "braing3n-worker"
_KNOWN = ("spool", "checkpoint", "device", "gpus", "rehearsal")
_REQUESTS_AT_ONCE = 1000
"""Long polls wait inside the API, so many at a time are usual."""


def app(arguments: dict[str, str]) -> Any:
    """The application for ``serve run``. arguments: spool, checkpoint, device, gpus (how many), rehearsal (yes).

    Raises ConfigError.
    """
    settings, gpus = read_arguments(arguments)
    deployment = serve.deployment(
        name=REPLICA, num_replicas=1, max_ongoing_requests=_REQUESTS_AT_ONCE,
        ray_actor_options={"num_cpus": 1, "num_gpus": gpus},
    )  # fmt: skip
    return deployment(serve.ingress(_builder(settings, gpus))()).bind()


def read_arguments(arguments: dict[str, str]) -> tuple[Settings, int]:
    """The settings and the number of GPUs. Raises ConfigError for an unknown word and what is no number."""
    unknown = sorted(set(arguments) - set(_KNOWN))
    gpus = str(arguments.get("gpus", "0"))
    if unknown or not gpus.isdecimal():
        wrong = f"gpus={gpus}" if not unknown else ", ".join(unknown)
        raise ConfigError("worker.arguments", f"Cannot read the arguments of the application: {wrong}.",
                          f"Known: {', '.join(_KNOWN)}; gpus is a number.")  # fmt: skip
    settings = Settings(
        spool_folder(arguments.get("spool")).absolute(), _checkpoint(arguments.get("checkpoint", "small")),
        arguments.get("device", "auto"), rehearsal=arguments.get("rehearsal", "no") == "yes", behind_proxy=True,
    )  # fmt: skip
    return settings, int(gpus)


def _checkpoint(name: str) -> str:
    return name if name == "small" else str(Path(name).absolute())


def _builder(settings: Settings, gpus: int) -> Callable[[], FastAPI]:
    """What makes the API inside the replica: a worker's locks and threads cannot travel there."""

    def build() -> FastAPI:
        os.umask(0o077)
        _require_token(settings.spool)
        given = os.environ.get("CUDA_VISIBLE_DEVICES", "") if gpus else ""
        names = tuple(name for name in given.split(",") if name)
        return create_app(Worker(dataclasses.replace(settings, gpus=names)))

    return build


def _require_token(spool: Path) -> None:
    spool.mkdir(mode=0o700, parents=True, exist_ok=True)
    database = Database(spool / "worker.sqlite")
    try:
        if not any(not token.revoked for token in TokenStore(database).list()):
            raise ConfigError("worker.token", "Nobody has a token for this spool.",
                              "Run `braing3n worker token --spool ...` on the replica's machine first.")  # fmt: skip
    finally:
        database.close()

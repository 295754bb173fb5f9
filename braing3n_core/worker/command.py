"""What ``braing3n worker`` does: serve, and what an operator needs beside it."""

from __future__ import annotations

import argparse
import dataclasses
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

from ..errors import ConfigError, DependencyError
from ..protocol import TOKEN_VARIABLE
from .audit import verify_audit
from .settings import Limits, Settings
from .spool import Spool
from .store import Database
from .tokens import SCOPES, TokenStore, well_formed


def run_command(options: argparse.Namespace) -> None:
    """Do one action of ``braing3n worker``. Raises BrainG3NError."""
    actions = {"serve": _serve, "init": _init, "token": _token, "tokens": _tokens, "revoke": _revoke, "audit": _audit}
    actions[options.action](options)


def spool_folder(given: str | None) -> Path:
    """Where the worker keeps its things."""
    if given:
        return Path(given)
    state = os.environ.get("XDG_STATE_HOME") or os.path.join(os.path.expanduser("~"), ".local", "state")
    return Path(state) / "braing3n" / "worker"


def _settings(options: argparse.Namespace, spool: Path) -> Settings:
    checkpoint = options.checkpoint if options.checkpoint == "small" else os.path.abspath(options.checkpoint)
    limits = dataclasses.replace(Limits(), result_hours=options.result_hours)
    gpus = tuple(options.gpus.split(",")) if options.gpus else ()
    return Settings(spool, checkpoint, options.device, options.rehearsal, options.behind_proxy, gpus, limits)


def _serve(options: argparse.Namespace) -> None:
    try:
        from .app import Worker
        from .serve import Address, check_address, serve
    except ImportError as error:
        raise DependencyError("worker.not_installed", f"The worker needs the package {error.name}.",
                              "pip install 'braing3n[worker]'") from error  # fmt: skip
    os.umask(0o077)
    spool = Path(tempfile.mkdtemp(prefix="braing3n-worker-")) if options.child else spool_folder(options.spool)
    settings = _settings(options, spool)
    cert, key = (Path(p) if p else None for p in (options.tls_cert, options.tls_key))
    address = Address(options.host, options.port, cert, key)
    try:
        has_token = bool(options.token) or (spool / "worker.sqlite").exists()
        check_address(address, settings, has_token)
        worker = Worker(settings)
        _admit(worker.tokens, options)
        serve(worker, address, announce=options.child, until_stdin_closes=options.child)
    finally:
        if options.child:
            shutil.rmtree(spool, ignore_errors=True)


def _admit(tokens: TokenStore, options: argparse.Namespace) -> None:
    """The token that was given; without any, a new one, shown once."""
    os.environ.pop(TOKEN_VARIABLE, None)  # the children need not know it
    if options.token:
        if not well_formed(options.token):
            raise ConfigError("worker.token", "The token is too short to be safe.", "Use at least 32 characters.")
        tokens.add(options.token, "local")
    elif not any(not t.revoked for t in tokens.list()):
        _say(f"token (shown once): {tokens.create(options.user)}")
    if not options.child:
        scheme = "https" if options.tls_cert else "http"
        _say(f"worker: {scheme}://{options.host}:{options.port}   (stop with Ctrl-C; the API: /v1/docs)")


def _init(options: argparse.Namespace) -> None:
    from .certificate import fingerprint_of, make_certificate

    spool = spool_folder(options.spool)
    cert, key = make_certificate(spool, options.host)
    token = _new_token(spool, options)
    url = f"https://{options.host}:{options.port}"
    _say(f"certificate: {cert}\nkey:         {key}\nfingerprint: {fingerprint_of(cert)}\ntoken:       {token}\n")
    listen = "127.0.0.1" if options.host == "127.0.0.1" else "0.0.0.0"
    _say(f"Start the worker:\n  braing3n worker --host {listen} --port {options.port} --tls-cert {cert} --tls-key {key}"
         f"{' --spool ' + str(spool) if options.spool else ''}\n")  # fmt: skip
    _say(f"Paste into Slicer (BrainG3N, Worker):\n  {url} {token} {fingerprint_of(cert)}\n")
    _say(f"Or through ssh, with the worker on 127.0.0.1:\n"
         f"  ssh -N -L {options.port}:127.0.0.1:{options.port} {options.host}")  # fmt: skip


def _token(options: argparse.Namespace) -> None:
    _say(_new_token(spool_folder(options.spool), options))


def _new_token(spool: Path, options: argparse.Namespace) -> str:
    scopes = tuple(options.scopes.split(","))
    if not set(scopes) <= set(SCOPES):
        raise ConfigError("worker.scopes", f"Unknown scopes in {options.scopes!r}.", f"Known: {', '.join(SCOPES)}.")
    expires = None if options.days is None else time.time() + 86400 * options.days
    database = _database(spool)
    try:
        return TokenStore(database).create(options.user, scopes, expires)
    finally:
        database.close()


def _tokens(options: argparse.Namespace) -> None:
    database = _database(spool_folder(options.spool))
    for row in TokenStore(database).list():
        until = "never" if row.expires is None else time.strftime("%Y-%m-%d", time.gmtime(row.expires))
        state = "revoked" if row.revoked else f"expires {until}"
        _say(f"{row.id}  {row.user}  {','.join(row.scopes)}  {state}")
    database.close()


def _revoke(options: argparse.Namespace) -> None:
    database = _database(spool_folder(options.spool))
    done = TokenStore(database).revoke(options.name or "")
    database.close()
    if not done:
        raise ConfigError("worker.token", f"There is no token {options.name!r}.", "See `braing3n worker tokens`.")
    _say("Revoked, from now on.")


def _audit(options: argparse.Namespace) -> None:
    path = spool_folder(options.spool) / "audit.jsonl"
    if not path.exists():
        raise ConfigError("audit.none", f"There is no audit trail in {path.parent}.", "Give --spool.")
    _say(f"{verify_audit(path)} lines, unbroken.")


def _database(spool: Path) -> Database:
    """The database beside a worker that may be running."""
    spool.mkdir(mode=0o700, parents=True, exist_ok=True)
    return Database(spool / "worker.sqlite")


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


__all__ = ["Spool", "run_command", "spool_folder"]

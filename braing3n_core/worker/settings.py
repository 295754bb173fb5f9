"""Everything about a worker that can be set, with its defaults."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

GIB = 2**30


@dataclass(frozen=True)
class Limits:
    """What one user, one file and one job may take. Seconds and bytes are in the names."""

    upload_bytes: int = 2 * GIB
    user_bytes: int = 20 * GIB
    free_bytes: int = GIB
    """Space that is kept free on the spool's disk."""
    queued_jobs: int = 512
    user_jobs: int = 64
    """Queued and running jobs of one user."""
    user_uploads: int = 256
    idle_seconds: float = 2.0
    """How long a sender of a request may be silent."""
    body_seconds: float = 60.0
    """How long one request's body may take in all."""
    parse_seconds: float = 60.0
    parse_bytes: int = 8 * GIB
    """Address space of the parser."""
    silent_seconds: float = 900.0
    """A job that reports nothing for so long hangs."""
    cancel_seconds: float = 1.0
    """How long a job may take to obey a cancel before its process is killed."""
    crashes: int = 2
    """How often a job that took its process down is tried again."""
    result_hours: float = 24.0
    """After so long a finished job and its files are erased."""
    upload_hours: float = 2.0
    """After so long an upload that no job needs is erased."""
    forget_seconds: float = 600.0
    """How long the executor keeps the last prepared scan in memory."""


@dataclass(frozen=True)
class Settings:
    """One worker. checkpoint: as for the engine. rehearsal: instead of the models run the test operation.

    gpus: one executor on each of these, named as in CUDA_VISIBLE_DEVICES; none: one executor on ``device``.
    """

    spool: Path
    checkpoint: str = "small"
    device: str = "auto"
    rehearsal: bool = False
    behind_proxy: bool = False
    gpus: tuple[str, ...] = ()
    limits: Limits = field(default_factory=Limits)

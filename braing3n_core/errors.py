"""Errors that say what happened, where, and what to do.

Every error a user can cause is a :class:`BrainG3NError` with a stable dotted ``code``, a ``message`` (what, got, where)
and a ``hint`` (what to do). Faces print the two sentences; scripts branch on the code.
"""

from __future__ import annotations


class BrainG3NError(Exception):
    """Base of all errors raised on purpose.

    code: stable dotted identifier, e.g. ``volume.truncated``.
    message: what was expected, what was found, and where.
    hint: what the caller should do next.
    """

    def __init__(self, code: str, message: str, hint: str = "") -> None:
        super().__init__(f"{message} {hint}".strip())
        self.code = code
        self.message = message
        self.hint = hint

    def __reduce__(self) -> tuple[type, tuple[str, str, str]]:
        return type(self), (self.code, self.message, self.hint)

    def to_dict(self) -> dict[str, str]:
        """The error as it travels to scripts: code, message, hint, and the type that :func:`error_from_dict` reads."""
        return {"code": self.code, "message": self.message, "hint": self.hint, "type": type(self).__name__}


class VolumeError(BrainG3NError):
    """A file or array is not a single, finite, well-placed 3D volume. Repair or replace the input."""


class PreprocessError(BrainG3NError):
    """A preprocessing step refused its input or has no usable backend. Change the stage, the mask or the backend."""


class CheckpointError(BrainG3NError):
    """A checkpoint folder is missing, damaged, of another kind, or its parts do not belong together."""


class ConfigError(BrainG3NError):
    """A configuration has an unknown key, lacks one, or holds a value of another type. Correct the named setting."""


class RequestError(BrainG3NError):
    """A request asks for something the loaded checkpoint does not know. See ``capabilities``."""


class DependencyError(BrainG3NError):
    """An optional package or file that this operation needs is not installed."""


class ProcessError(BrainG3NError):
    """The process that runs the engine could not be started, died, or did not speak the protocol."""


class AccessError(BrainG3NError):
    """The worker does not admit this token, or not to this. Ask its operator for a token; do not try again."""


class WorkerError(BrainG3NError):
    """The worker answered in a way that this version does not understand, or gave a file that is not whole.
    Install the same version on both sides; if they are the same, tell the worker's operator."""


class UnreachableError(WorkerError):
    """No connection to the worker for as long as was waited. Check address, tunnel and network, then run the same
    request again: what was uploaded is kept for a while."""


class UntrustedError(WorkerError):
    """The worker's certificate is not the one that was pinned, or is signed by nobody known. Do not send anything;
    compare the fingerprint with the one that `braing3n worker init` printed on the server."""


class BusyError(WorkerError):
    """The worker's queue or disk stayed full for as long as was waited. Run the request again later."""


class Cancelled(BrainG3NError):
    """The caller cancelled the run; nothing half-written is left behind."""

    def __init__(self, code: str = "cancelled", message: str = "The run was cancelled.", hint: str = "") -> None:
        super().__init__(code, message, hint)


_ON_THE_WIRE: tuple[type[BrainG3NError], ...] = (
    VolumeError,
    PreprocessError,
    CheckpointError,
    ConfigError,
    RequestError,
    DependencyError,
    ProcessError,
    AccessError,
    WorkerError,
    UnreachableError,
    UntrustedError,
    BusyError,
    Cancelled,
)


def error_from_dict(data: dict[str, str]) -> BrainG3NError:
    """The inverse of :meth:`BrainG3NError.to_dict`; an unknown type becomes the base class, its code kept."""
    cls = {known.__name__: known for known in _ON_THE_WIRE}.get(data.get("type", ""), BrainG3NError)
    return cls(data.get("code", "unknown"), data.get("message", ""), data.get("hint", ""))

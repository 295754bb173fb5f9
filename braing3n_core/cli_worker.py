"""The grammar and the manual of ``braing3n worker``, and of ``--worker`` for the other verbs."""

from __future__ import annotations

import argparse
import os

from .protocol import TOKEN_VARIABLE

FINGERPRINT_VARIABLE = "BRAING3N_WORKER_FINGERPRINT"
_ABOUT = (
    "Serves the engine on 127.0.0.1 with a token that it makes and prints; nothing needs to be set.\n"
    "Any other --host needs `braing3n worker init` first (token, certificate), or --behind-proxy.\n"
    "Research software, not for clinical use."
)
_EXAMPLES = (
    "examples:\n"
    "  braing3n worker\n"
    "  braing3n worker init --host gpu.hospital.example --user radiology\n"
    "  braing3n worker --host 0.0.0.0 --tls-cert worker-cert.pem --tls-key worker-key.pem\n"
    "  braing3n worker token --user alice --days 90\n"
    "  braing3n worker revoke 0123456789ab\n"
    "  braing3n worker audit\n"
    "  braing3n --worker https://gpu.hospital.example:8765 probe T1.nii.gz -o out\n"
)


def add_remote(parser: argparse.ArgumentParser) -> None:
    """``--worker URL`` and what goes with it."""
    group = parser.add_argument_group("on a worker instead of here")
    group.add_argument("--worker", metavar="URL", help="run the verb on the worker at this address")
    group.add_argument("--worker-token", metavar="TOKEN", default=os.environ.get(TOKEN_VARIABLE),
                       help=f"its token (better: ${TOKEN_VARIABLE}, which no process list shows)")  # fmt: skip
    group.add_argument("--worker-fingerprint", metavar="SHA256", default=os.environ.get(FINGERPRINT_VARIABLE),
                       help=f"sha256 of its certificate, when self-signed (or ${FINGERPRINT_VARIABLE})")  # fmt: skip


def add_worker(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The verb ``worker``."""
    parser = verbs.add_parser(
        "worker", help="Serve the engine to other programs and machines", description=_ABOUT, epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("action", nargs="?", default="serve",
                        choices=("serve", "init", "token", "tokens", "revoke", "audit"),
                        help="init: token and certificate; token, tokens, revoke: who may in; audit: check the trail "
                        "(default: serve)")  # fmt: skip
    parser.add_argument("name", nargs="?", help="for revoke: the id of the token")
    _add_serving(parser)
    group = parser.add_argument_group("tokens")
    group.add_argument("--user", default="user", help="whose token it is; jobs belong to the user (default: user)")
    group.add_argument("--days", type=float, help="until it expires (default: never)")
    group.add_argument("--scopes", default="info,run", help="comma-separated: info, run (default: both)")
    parser.set_defaults(json=False, quiet=False)


def _add_serving(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("serving")
    group.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    group.add_argument("--port", type=int, default=8765, help="0 takes a free one (default: 8765)")
    group.add_argument("--token", default=os.environ.get(TOKEN_VARIABLE),
                       help=f"admit this token too, at least 32 characters (better: ${TOKEN_VARIABLE})")  # fmt: skip
    group.add_argument("--tls-cert", metavar="FILE", help="certificate chain, PEM")
    group.add_argument("--tls-key", metavar="FILE", help="its key, PEM")
    group.add_argument("--behind-proxy", action="store_true", help="a proxy in front does TLS: plain HTTP is allowed")
    group.add_argument("--spool", metavar="DIR", help="folder of jobs, tokens and audit trail "
                       "(default: $XDG_STATE_HOME/braing3n/worker)")  # fmt: skip
    group.add_argument("--checkpoint", default="small", metavar="DIR", help="checkpoint folder (default: small)")
    group.add_argument("--device", default="auto", metavar="auto|cpu|cuda", help="(default: auto)")
    group.add_argument("--gpus", metavar="0,1,...", help="an executor on each of these GPUs, named as in "
                       "CUDA_VISIBLE_DEVICES (default: one, on --device)")  # fmt: skip
    group.add_argument("--result-hours", type=float, default=24.0, help="until results are erased (default: 24)")
    group.add_argument("--rehearsal", action="store_true", help="for tests: a test operation instead of the models")
    group.add_argument("--child", action="store_true", help="for programs: announce the address as JSON on stdout, "
                       "use a temporary spool, end when stdin closes")  # fmt: skip

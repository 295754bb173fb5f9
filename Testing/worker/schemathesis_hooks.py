"""What schemathesis is told beside its settings: a piece of an upload that fits, so that some uploads begin."""

from __future__ import annotations

import schemathesis

PIECE = b"a piece"


@schemathesis.hook
def map_case(context: schemathesis.HookContext, case: schemathesis.Case) -> schemathesis.Case:
    """Where a right piece was meant: one that begins a file of its size, without a sha256 that cannot be right."""
    right = case.meta is not None and case.meta.generation.mode.is_positive
    if right and case.method.upper() == "PATCH" and isinstance(case.query.get("size"), int):
        case.headers.pop("x-chunk-sha256", None)
        case.body, case.query["offset"] = PIECE, 0
        case.query["size"] = len(PIECE) + case.query["size"] % 5
    return case

"""The command line: builds a request, calls the engine, shows the result.

Exit codes: 0 the result is whole, 1 error, 2 usage, 130 stopped.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, redirect_stdout
from pathlib import Path
from typing import Any

from .cli_checkpoint import run_export, run_import
from .cli_parser import build_parser
from .console import progress_sink, show_capabilities, show_cohort, show_demo, show_result
from .errors import BrainG3NError, Cancelled, RequestError
from .progress import Cancel
from .protocol import TOKEN_VARIABLE
from .schema import (
    AnyRequest,
    Conditions,
    CounterfactualRequest,
    EncodeRequest,
    EngineProtocol,
    ExamineRequest,
    ForecastRequest,
    GenerateRequest,
    PreprocessOptions,
    PreprocessRequest,
    ProbeRequest,
    ReconstructRequest,
    nearest,
    request_from_dict,
)

WHOLE, FAILED, USAGE, STOPPED = 0, 1, 2, 130
_ALIASES: dict[str, str] = {"age": "age_years"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    options = build_parser().parse_args(arguments)
    cancel = Cancel()
    try:
        with _signals(cancel):
            _VERBS.get(options.verb, _request)(options, cancel)
        return WHOLE
    except (Cancelled, KeyboardInterrupt):
        return _fail(Cancelled(hint="No file was left half-written."), options, STOPPED)
    except BrainG3NError as error:
        return _fail(error, options, FAILED)


def _request(options: argparse.Namespace, cancel: Cancel) -> None:
    """A verb of the engine."""
    request = _read_request(options.input) if options.verb == "run" else _BUILDERS[options.verb](options)
    _run(request, options, cancel)


def _engine(options: argparse.Namespace) -> EngineProtocol:
    """The engine of this process, or that of the worker which ``--worker`` names."""
    output_format = getattr(options, "format", "auto")
    if options.worker is None:
        from .engine import Engine

        return Engine(options.checkpoint, options.device, output_format=output_format)
    from .outputs import extension_for
    from .remote import RemoteEngine

    extension_for(output_format, None)
    if options.worker_token is None:
        raise RequestError("worker.token", "A worker needs a token.", f"Set {TOKEN_VARIABLE} or give --worker-token.")
    return RemoteEngine(options.worker, options.worker_token, options.worker_fingerprint, output_format=output_format)


def _run(request: AnyRequest, options: argparse.Namespace, cancel: Cancel) -> None:
    engine = _engine(options)
    with _clear_stdout(options), progress_sink(_style(options)) as progress:
        result = engine.run(request, options.out, progress=progress, cancel=cancel)
    if options.json:
        _print_json(result.to_dict())
    elif not options.quiet:
        show_result(result)


def _capabilities(options: argparse.Namespace, cancel: Cancel) -> None:
    with _clear_stdout(options):
        facts = _engine(options).capabilities()
    if options.json:
        _print_json(facts)
    else:
        show_capabilities(facts)


def _demo(options: argparse.Namespace, cancel: Cancel) -> None:
    from .demo import run_demo

    engine = _engine(options)
    with _clear_stdout(options), progress_sink(_style(options)) as progress:
        demo = run_demo(engine, options.input, Path(options.out), _preprocess_options(options), options.seed,
                        progress=progress, cancel=cancel)
    if options.json:
        _print_json(demo.to_dict())
    elif not options.quiet:
        show_demo(demo)


def _generate_verb(options: argparse.Namespace, cancel: Cancel) -> None:
    """A few brains, or with ``--bids`` a cohort."""
    if not options.bids:
        _refuse_cohort_options(options)
        _request(options, cancel)
        return
    if options.format == "nrrd":
        raise RequestError("cohort.format", "The images of a BIDS data set are NIfTI.", "Leave out --format nrrd.")
    from .cohort import CohortPlan, make_cohort, read_rows
    from .shard import parse_shard

    shared = parse_conditions(options.set)
    rows: tuple[Conditions, ...] = (shared,)
    if options.participants:
        rows = tuple(shared.replace(**row.known()) for row in read_rows(options.participants))
    base = dataclasses.replace(_generate(options), conditions=Conditions(), count=1)
    plan = CohortPlan(base, rows * max(options.count, 0), parse_shard(options.shard), options.reference)
    engine = _engine(options)
    with _clear_stdout(options), progress_sink(_style(options)) as progress:
        cohort = make_cohort(engine, plan, Path(options.out), progress=progress, cancel=cancel)
    if options.json:
        _print_json(cohort.to_dict())
    elif not options.quiet:
        show_cohort(cohort)


def _refuse_cohort_options(options: argparse.Namespace) -> None:
    """Without ``--bids`` they would do nothing, and every machine of a cluster would make the same brains."""
    for name, nothing in (("participants", None), ("shard", "1/1"), ("reference", None)):
        if getattr(options, name) != nothing:
            raise RequestError(
                "request.bids", f"--{name} is for a cohort, and --bids is not given.", f"Add --bids, or drop --{name}."
            )


def _worker(options: argparse.Namespace, cancel: Cancel) -> None:
    from .worker.command import run_command

    run_command(options)


_VERBS: dict[str, Callable[[argparse.Namespace, Cancel], None]] = {
    "capabilities": _capabilities, "demo": _demo, "generate": _generate_verb, "worker": _worker,
    "import-encoder": lambda options, cancel: run_import(options),
    "export-bundle": lambda options, cancel: run_export(options),
}


def _preprocess_options(options: argparse.Namespace) -> PreprocessOptions:
    return PreprocessOptions(
        options.modality, options.stage, options.brain, options.mask, options.template, not options.no_n4
    )


def _scan(options: argparse.Namespace) -> tuple[str, PreprocessOptions, int]:
    return options.input, _preprocess_options(options), options.seed


def _counterfactual(options: argparse.Namespace) -> CounterfactualRequest:
    common, scales = _guidance(options.guidance)
    return CounterfactualRequest(
        *_scan(options), parse_conditions(options.set), parse_conditions(options.given), common,
        options.strength, options.steps, options.rendering, options.method, options.sampler, scales,
    )


def _guidance(given: Sequence[tuple[str, float]]) -> tuple[float, dict[str, float]]:
    """The common factor, and those of conditions of their own; of one that is given twice the last counts."""
    scales = {_ALIASES.get(name, name): scale for name, scale in given}
    return scales.pop("", CounterfactualRequest.guidance_scale), scales


def _forecast(options: argparse.Namespace) -> ForecastRequest:
    return ForecastRequest(
        *_scan(options), tuple(options.years), options.age, options.sex, options.disease, options.cdr, options.samples,
        options.steps, options.guidance, options.rendering, not options.no_uncertainty,
        options.sampler,
    )


def _generate(options: argparse.Namespace) -> GenerateRequest:
    return GenerateRequest(
        parse_conditions(options.set), options.count, options.seed, options.guidance, options.steps, options.sampler,
        tuple(options.guidance_interval), options.zero_star, options.guide_numbers, options.noise_scale,
        options.exact_guidance, options.truncation,
        None if options.reweighting is None else tuple(options.reweighting),
    )


_BUILDERS: dict[str, Callable[[argparse.Namespace], AnyRequest]] = {
    "preprocess": lambda o: PreprocessRequest(*_scan(o)),
    "examine": lambda o: ExamineRequest(*_scan(o)),
    "encode": lambda o: EncodeRequest(*_scan(o)),
    "probe": lambda o: ProbeRequest(*_scan(o)),
    "reconstruct": lambda o: ReconstructRequest(*_scan(o)),
    "counterfactual": _counterfactual, "forecast": _forecast, "generate": _generate,
}


def parse_conditions(pairs: Sequence[str]) -> Conditions:
    """``["disease=AD", "age=80"]`` as conditions. Raises RequestError."""
    known = tuple(Conditions.__dataclass_fields__)
    values: dict[str, Any] = {}
    for pair in pairs:
        name, equals, word = pair.partition("=")
        name = _ALIASES.get(name.strip(), name.strip())
        if not equals or name not in known:
            names = ("age", *(k for k in known if k != "age_years"))
            meant = "" if name in known else nearest(name, names)
            raise RequestError(
                "request.condition", f"Cannot read the condition {pair!r}.",
                f"{meant}Write NAME=VALUE with a name of: {', '.join(names)}.",
            )
        values[name] = _age(word) if name == "age_years" else word.strip()
    return Conditions(**values)


def _age(word: str) -> float:
    try:
        return float(word)
    except ValueError as error:
        raise RequestError("request.age_years", f"An age is a number, got {word!r}.", "Write age=80.") from error


def _read_request(path: str) -> AnyRequest:
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RequestError("request.file", f"Cannot read the request {path}: {error}.", "Give a JSON file.") from error
    if not isinstance(data, dict):
        raise RequestError("request.file", f"{path} holds no JSON object.", "See `braing3n run --help`.")
    return request_from_dict(data)


@contextmanager
def _signals(cancel: Cancel) -> Iterator[None]:
    """SIGINT and SIGTERM ask the run to stop at its next step; a second one stops it where it is."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: object) -> None:
        if cancel.cancelled:
            raise KeyboardInterrupt
        cancel.cancel()

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _clear_stdout(options: argparse.Namespace) -> AbstractContextManager[Any]:
    """With ``--json`` nothing but the answer may be on stdout, whatever a library prints."""
    return redirect_stdout(sys.stderr) if options.json else nullcontext()


def _style(options: argparse.Namespace) -> str:
    return "quiet" if options.quiet else "json" if options.json else "auto"


def _print_json(data: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(data, default=str) + "\n")


def _fail(error: BrainG3NError, options: argparse.Namespace, code: int) -> int:
    if options.json:
        _print_json({"error": error.to_dict()})
    else:
        sys.stderr.write(f"error [{error.code}]: {error.message}\n" + (f"hint: {error.hint}\n" if error.hint else ""))
    return code

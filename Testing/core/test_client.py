"""The engine in a child process: results, typed errors, progress, cancel and crashes, with real child processes."""

from __future__ import annotations

import json
import os
import stat
import sys
import threading
import time
from pathlib import Path

import pytest

from braing3n_core.client import ProcessEngine
from braing3n_core.errors import BrainG3NError, Cancelled, DependencyError, ProcessError, RequestError, VolumeError
from braing3n_core.progress import Cancel
from braing3n_core.schema import (
    AnyRequest,
    Conditions,
    CounterfactualRequest,
    ForecastRequest,
    GenerateRequest,
    Output,
    Reading,
    Result,
    request_from_dict,
    request_to_dict,
    request_to_send,
    result_from_dict,
)

RESULT = Result(
    kind="probe",
    outputs=(Output("mask", "out/mask.nii.gz", "native"), Output("forecast", "out/f.nii.gz", "SRI24", True, 5.0)),
    readings=(Reading("age", 61.5, "years", (52.0, 71.0)), Reading("sex", "F", probabilities={"F": 0.9, "M": 0.1})),
    effects=(),
    provenance={"seed": 3, "steps": [{"name": "n4"}]},
    warnings=("The template is ICBM152.",),
)
needs_posix = pytest.mark.skipif(os.name == "nt", reason="Needs an executable script as the interpreter.")


def speaker(folder: Path, body: str) -> Path:
    """An interpreter that speaks the protocol by its own script, whatever module it is asked to run."""
    script = folder / "speaker.py"
    script.write_text(f"import json, os, signal, subprocess, sys, time\n{body}\n", encoding="utf-8")
    interpreter = folder / "python"
    interpreter.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{script}" "$@"\n', encoding="utf-8")
    interpreter.chmod(interpreter.stat().st_mode | stat.S_IXUSR)
    return interpreter


def alive(pid: int) -> bool:
    """Whether the process runs (a zombie that nobody has collected yet does not)."""
    status = Path(f"/proc/{pid}/stat")
    if status.parent.parent.joinpath("self").exists():
        return status.exists() and status.read_text().rsplit(")", 1)[1].split()[0] != "Z"
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def wait_until(condition: object, seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():  # type: ignore[operator]
            return True
        time.sleep(0.02)
    return False


def test_a_result_survives_the_wire() -> None:
    assert result_from_dict(json.loads(json.dumps(RESULT.to_dict()))) == RESULT


@pytest.mark.parametrize("cls", [VolumeError, RequestError, DependencyError, Cancelled, BrainG3NError])
def test_an_error_survives_the_wire_with_its_type(cls: type[BrainG3NError]) -> None:
    from braing3n_core.errors import error_from_dict

    error = error_from_dict(json.loads(json.dumps(cls("some.code", "What.", "Do.").to_dict())))
    assert type(error) is cls
    assert (error.code, error.message, error.hint) == ("some.code", "What.", "Do.")


@needs_posix
def test_a_run_returns_the_childs_result_and_relays_its_progress(tmp_path: Path) -> None:
    python = speaker(tmp_path, f"""
sys.stderr.write('{{"progress": 0.25, "message": "encode"}}\\na line of a log\\n')
sys.stderr.write('{{"progress": 1.0, "message": "done"}}\\n')
print(json.dumps({RESULT.to_dict()!r}))
""")
    reports: list[tuple[float, str, str]] = []
    result = ProcessEngine(python).run(
        ForecastRequest("scan.nii.gz"), tmp_path / "out",
        progress=lambda fraction, message: reports.append((fraction, message, threading.current_thread().name)),
    )  # fmt: skip
    assert result == RESULT
    here = threading.current_thread().name
    assert reports == [(0.25, "encode", here), (1.0, "done", here)]


@needs_posix
def test_the_child_is_asked_as_documented(tmp_path: Path) -> None:
    python = speaker(tmp_path, """
request = json.load(open(sys.argv[4])) if sys.argv[3] == "run" else None
print(json.dumps({"kind": "probe", "provenance": {"argv": sys.argv[1:], "request": request}}))
""")
    request = CounterfactualRequest("scan.nii.gz", target=Conditions(disease="AD"), seed=7)
    engine = ProcessEngine(python, checkpoint="some/folder", device="cpu")
    seen = engine.run(request, tmp_path / "out").provenance
    assert request_from_dict(seen["request"]) == request
    assert seen["argv"][:3] == ["-m", "braing3n_core", "run"]
    assert seen["argv"][4:] == [
        "-o", str(tmp_path / "out"), "--json", "--device", "cpu", "--checkpoint", "some/folder"
    ]  # fmt: skip
    assert not Path(seen["argv"][3]).exists()  # the request file is gone again
    assert engine.capabilities()["provenance"]["argv"][2] == "capabilities"


@needs_posix
def test_the_engines_own_error_is_raised_again(tmp_path: Path) -> None:
    wire = {"error": VolumeError("volume.truncated", "scan.nii.gz ends early.", "Copy it again.").to_dict()}
    python = speaker(tmp_path, f"print(json.dumps({wire!r})); sys.exit(2)")
    with pytest.raises(VolumeError, match="ends early") as caught:
        ProcessEngine(python).capabilities()
    assert (caught.value.code, caught.value.hint) == ("volume.truncated", "Copy it again.")


@needs_posix
@pytest.mark.parametrize(
    ("body", "code", "words"),
    [
        ("sys.exit('no memory for that')", "process.died", "exit code 1.*\n.*no memory for that"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "process.died", "signal 9"),
        ("print('{half an ans')", "process.died", "no answer"),
        ("print('[1, 2]')", "process.died", "no answer"),
        ("print(json.dumps({'kind': 'probe', 'colour': 'red'}))", "process.protocol", "colour"),
        ("sys.exit('python: No module named braing3n_core')", "process.not_installed", "pip install"),
    ],
)
def test_a_child_that_fails_is_a_typed_error_with_its_last_words(
    tmp_path: Path, body: str, code: str, words: str
) -> None:
    with pytest.raises(ProcessError, match=words) as caught:
        ProcessEngine(speaker(tmp_path, body)).run(ForecastRequest("scan.nii.gz"), tmp_path)
    assert caught.value.code == code


def test_an_interpreter_that_is_not_there_is_a_typed_error(tmp_path: Path) -> None:
    with pytest.raises(ProcessError, match="Cannot start") as caught:
        ProcessEngine(tmp_path / "python").capabilities()
    assert caught.value.code == "process.interpreter"


@needs_posix
def test_a_long_log_neither_blocks_the_child_nor_fills_the_memory(tmp_path: Path) -> None:
    python = speaker(tmp_path, "sys.stderr.write('x' * 99 + '\\n'); [sys.stderr.write('y' * 99 + '\\n') "
                     "for _ in range(20_000)]; sys.exit(3)")  # fmt: skip
    with pytest.raises(ProcessError) as caught:
        ProcessEngine(python).capabilities()
    assert caught.value.message.count("\n") == 40


@needs_posix
def test_cancel_asks_the_child_to_end_and_lets_it_tidy_up(tmp_path: Path) -> None:
    python = speaker(tmp_path, f"""
def tidy(*_):
    open({str(tmp_path / "tidied")!r}, "w").close()
    sys.exit(130)
signal.signal(signal.SIGTERM, tidy)
sys.stderr.write('{{"progress": 0.1, "message": "started"}}\\n')
time.sleep(60)
""")
    cancel, started = Cancel(), time.monotonic()
    with pytest.raises(Cancelled):
        ProcessEngine(python).run(
            ForecastRequest("scan.nii.gz"), tmp_path, progress=lambda *_: cancel.cancel(), cancel=cancel
        )
    assert (tmp_path / "tidied").exists()
    assert time.monotonic() - started < 20


@needs_posix
def test_a_child_that_will_not_end_is_killed_with_its_own_children(tmp_path: Path) -> None:
    python = speaker(tmp_path, f"""
signal.signal(signal.SIGTERM, signal.SIG_IGN)
grandchild = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
open({str(tmp_path / "pids")!r}, "w").write(f"{{os.getpid()}} {{grandchild.pid}}")
sys.stderr.write('{{"progress": 0.1, "message": "started"}}\\n')
time.sleep(60)
""")
    cancel = Cancel()
    with pytest.raises(Cancelled):
        ProcessEngine(python, grace_seconds=0.3).run(
            ForecastRequest("scan.nii.gz"), tmp_path, progress=lambda *_: cancel.cancel(), cancel=cancel
        )
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    assert wait_until(lambda: not any(alive(pid) for pid in pids))


@needs_posix
def test_an_exception_in_the_progress_sink_does_not_leave_the_child_running(tmp_path: Path) -> None:
    python = speaker(tmp_path, f"""
open({str(tmp_path / "pid")!r}, "w").write(str(os.getpid()))
sys.stderr.write('{{"progress": 0.1, "message": "started"}}\\n')
time.sleep(60)
""")

    def broken(fraction: float, message: str) -> None:
        raise ZeroDivisionError(message)

    with pytest.raises(ZeroDivisionError):
        ProcessEngine(python, grace_seconds=0.5).run(ForecastRequest("scan.nii.gz"), tmp_path, progress=broken)
    assert wait_until(lambda: not alive(int((tmp_path / "pid").read_text())))


def test_a_run_that_is_already_cancelled_starts_nothing(tmp_path: Path) -> None:
    cancel = Cancel()
    cancel.cancel()
    with pytest.raises(Cancelled):
        ProcessEngine(tmp_path / "python").run(ForecastRequest("scan.nii.gz"), tmp_path, cancel=cancel)


@needs_posix
def test_another_interpreter_does_not_inherit_this_ones_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", "the/hosts/own")
    python = speaker(tmp_path, "print(json.dumps({'path': os.environ.get('PYTHONPATH')}))")
    assert ProcessEngine(python).capabilities() == {"path": None}


@pytest.mark.parametrize(("request_", "unsaid"), [
    (GenerateRequest(),
     {"guidance_scale", "noise_scale", "zero_star", "guide_numbers", "exact_guidance", "truncation", "reweighting"}),
    (GenerateRequest(noise_scale=0.0, zero_star=True),
     {"guidance_scale", "guide_numbers", "exact_guidance", "truncation", "reweighting"}),
    (GenerateRequest(truncation=0.0, reweighting=(1.0, 1.0)),
     {"guidance_scale", "noise_scale", "zero_star", "guide_numbers", "exact_guidance"}),
    (ForecastRequest("scan.nii.gz", age_years=0.0, uncertainty=False), {"sex", "disease", "cdr"}),
    (CounterfactualRequest("scan.nii.gz", target=Conditions(sex="M")), {"guidance_scales"}),
    (CounterfactualRequest("scan.nii.gz", target=Conditions(sex="M"), guidance_scales={"sex": 2.0}), set()),
])  # fmt: skip
def test_a_worker_is_sent_everything_but_the_options_that_are_off(request_: AnyRequest, unsaid: set[str]) -> None:
    sent = json.loads(json.dumps(request_to_send(request_)))
    assert set(request_to_dict(request_)) - set(sent) == unsaid and request_from_dict(sent) == request_


def test_a_request_file_holds_the_whole_request() -> None:
    request = ForecastRequest("scan.nii.gz", horizons_years=(1.0, 5.0), age_years=72.0)
    assert request_from_dict(json.loads(json.dumps(request_to_dict(request)))) == request

"""The command line as people and programs meet it: exit codes, messages, streams and signals."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from braing3n_core.cli import main, parse_conditions
from braing3n_core.cli_parser import build_parser
from braing3n_core.console import JsonLines, PlainLines, progress_sink, show_result
from braing3n_core.errors import RequestError
from braing3n_core.schema import REQUESTS, Conditions, Reading, Result, result_from_dict

VERBS = (*REQUESTS, "capabilities", "demo", "run")


def run(*arguments: str | Path) -> int:
    return main([str(a) for a in arguments])


def test_generate_writes_its_files_and_says_so(
    tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run("generate", "--set", "disease=AD", "--set", "age=80", "--steps", "2", "--noise-scale", "0.5",
               "--truncation", "0.75", "--reweighting", "1", "1", "--checkpoint", tiny_checkpoint,
               "-o", tmp_path / "out")  # fmt: skip
    shown = capsys.readouterr()
    assert code == 0
    assert (tmp_path / "out" / "sub-synthetic01_space-SRI24_desc-generated_T1w.nii.gz").is_file()
    provenance = json.loads((tmp_path / "out" / "provenance.json").read_text())
    assert provenance["noise_scale"] == 0.5 and provenance["truncation"] == 0.75 and provenance["reweighting"] == [1, 1]
    assert "SYNTHETIC" in shown.out and "Random weights for tests, not for clinical use" in shown.out
    assert "[100%]" in shown.err


def test_json_gives_one_object_on_stdout_and_progress_lines_on_stderr(
    tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    request = tmp_path / "request.json"
    request.write_text(json.dumps({"kind": "generate", "num_steps": 2, "seed": 5}))
    code = run("run", request, "-o", tmp_path / "out", "--json", "--checkpoint", tiny_checkpoint)
    shown = capsys.readouterr()
    assert code == 0
    result = result_from_dict(json.loads(shown.out))
    assert isinstance(result, Result) and all(Path(o.path).is_file() for o in result.outputs)
    lines = [json.loads(line) for line in shown.err.splitlines()]
    assert lines[-1]["progress"] == 1.0 and all(set(line) == {"progress", "message"} for line in lines)


def test_an_unknown_word_names_the_nearest_and_exits_1(
    tiny_checkpoint: Path, registered_scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run("counterfactual", registered_scan, "--set", "disease=Alzheimer", "--checkpoint", tiny_checkpoint,
               "-o", tmp_path / "out")  # fmt: skip
    shown = capsys.readouterr().err
    assert code == 1
    assert shown.startswith("error [condition.word]: ")
    assert "hint: Did you mean 'AD'? Known values: HC, MCI, AD, GBM." in shown
    assert not (tmp_path / "out").exists()


def test_an_error_for_programs_is_one_object(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    request = tmp_path / "request.json"
    request.write_text('{"kind": "prob", "input": "x"}')
    assert run("run", request, "-o", tmp_path / "out", "--json") == 1
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["code"] == "request.kind" and "probe" in error["hint"] and error["message"]


@pytest.mark.parametrize("content", ["", "[1]", "{", '{"kind": "probe", "input": "x", "sed": 1}'])
def test_a_request_file_that_is_none_is_an_error_and_no_crash(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str
) -> None:
    (tmp_path / "request.json").write_text(content)
    assert run("run", tmp_path / "request.json", "-o", tmp_path / "out") == 1
    assert "error [request." in capsys.readouterr().err


def test_a_missing_scan_is_named(tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = run("probe", tmp_path / "gone.nii.gz", "-o", tmp_path / "out", "--checkpoint", tiny_checkpoint)
    assert code == 1
    assert "gone.nii.gz" in capsys.readouterr().err


WRONG_USAGE: list[list[str]] = [[], ["prob"], ["probe", "x.nii.gz"], ["forecast", "x", "-o", "y", "--years", "a"]]


@pytest.mark.parametrize("arguments", WRONG_USAGE)
def test_wrong_usage_exits_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_a_manual_with_an_example(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        build_parser().parse_args([verb, "--help"])
    text = capsys.readouterr().out
    assert caught.value.code == 0
    assert "examples:" in text and "not for clinical use" in text and f"usage: braing3n {verb}" in text


def test_help_and_capabilities_of_a_missing_checkpoint_need_no_torch() -> None:
    code = (
        "import sys\nfrom braing3n_core.cli import main\n"
        "assert main(['capabilities', '--checkpoint', '/nowhere']) == 1\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "sys.exit(3 if 'torch' in sys.modules else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "error [checkpoint.missing]" in done.stderr


@pytest.mark.skipif(os.name == "nt", reason="Windows sends no SIGINT to a single child.")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_the_run_with_130_and_leaves_nothing(
    tiny_checkpoint: Path, tmp_path: Path, number: signal.Signals
) -> None:
    command = [sys.executable, "-m", "braing3n_core", "generate", "--steps", "200", "--count", "64", "--json",
               "--checkpoint", str(tiny_checkpoint), "-o", str(tmp_path / "out")]  # fmt: skip
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert child.stderr is not None
    child.stderr.readline()
    child.send_signal(number)
    out, _ = child.communicate(timeout=120)
    assert child.returncode == 130
    assert json.loads(out)["error"]["code"] == "cancelled"
    assert not (tmp_path / "out").exists()


def test_conditions_are_read_as_name_and_value() -> None:
    assert parse_conditions(["disease=AD", "age=80", "sex=F"]) == Conditions(disease="AD", age_years=80.0, sex="F")
    assert parse_conditions(["age_years=71.5"]).age_years == 71.5
    with pytest.raises(RequestError) as caught:
        parse_conditions(["desease=AD"])
    assert "Did you mean 'disease'" in caught.value.hint
    with pytest.raises(RequestError) as caught:
        parse_conditions(["disease"])
    assert "Did you mean" not in caught.value.hint and "NAME=VALUE" in caught.value.hint
    for wrong in ("AD", "age=old", "=AD"):
        with pytest.raises(RequestError):
            parse_conditions([wrong])


def test_readings_come_with_where_their_quality_was_measured_and_what_the_checkpoint_is() -> None:
    quality = {"mae": 4.2, "n": 30, "data": "out-of-fold, grouped by subject"}
    readings = tuple(Reading(task, 61.0, interval=(50.0, 72.0), quality=quality) for task in ("age", "brain_volume"))
    stream, checkpoint = io.StringIO(), {"name": "small", "card": "On phantoms."}
    show_result(Result("probe", (), readings, provenance={"checkpoint": checkpoint}), stream)
    shown = stream.getvalue()
    assert shown.count("out-of-fold") == 1 and "mae 4.2" in shown
    assert shown.splitlines()[-1] == "checkpoint small: On phantoms."


def test_a_log_gets_one_line_per_step_or_tenth() -> None:
    stream = io.StringIO()
    lines = PlainLines(stream)
    for i in range(101):
        lines(i / 100, f"Step {i} of 100")
    shown = stream.getvalue().splitlines()
    assert 10 <= len(shown) <= 12
    assert shown[-1].startswith("[100%]") and shown[-1].endswith("Step 100 of 100")
    assert "left" in shown[5]


def test_json_progress_is_a_line_at_a_time() -> None:
    stream = io.StringIO()
    JsonLines(stream)(0.42, "Registering")
    assert stream.getvalue() == '{"progress": 0.42, "message": "Registering"}\n'


def test_a_terminal_gets_a_bar_and_quiet_gets_nothing() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for style, shows in (("auto", True), ("quiet", False)):
        stream = Terminal()
        with progress_sink(style, stream) as sink:
            sink(0.5, "Registering")
        assert bool(stream.getvalue()) is shows

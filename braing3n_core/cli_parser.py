"""The grammar and the manual of the command line."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from . import __version__
from .cli_checkpoint import add_checkpoint_verbs
from .cli_worker import add_remote, add_worker
from .schema import (
    BRAIN_BACKENDS,
    EDIT_METHODS,
    GUIDANCE_SCALE,
    MODALITIES,
    RENDERINGS,
    SAMPLERS,
    STAGES,
    CounterfactualRequest,
    ForecastRequest,
    GenerateRequest,
)

_RAW = argparse.RawDescriptionHelpFormatter
_NOTE = "Research software, not for clinical use. Every image that a model made says SYNTHETIC."
_FILES = "Beside each image lies a JSON sidecar; provenance.json says how the files were made."


def build_parser() -> argparse.ArgumentParser:
    """The parser of ``braing3n``."""
    parser = argparse.ArgumentParser(
        prog="braing3n", formatter_class=_RAW,
        description=f"A 3D brain MRI as 1200 tokens: read clinical variables, edit it, move it in time.\n{_NOTE}",
        epilog=(
            "examples:\n"
            "  braing3n demo -o demo_output\n"
            "  braing3n probe T1.nii.gz -o out\n"
            "  braing3n counterfactual T1.nii.gz --set disease=AD --set age=80 -o out\n"
            "  braing3n forecast T1.nii.gz --age 72 --sex F --disease MCI --years 1 2 5 -o out\n\n"
            "`braing3n VERB --help` is the manual of a verb. exit codes: 0 whole, 1 error, 2 usage, 130 stopped."
        ),
    )
    parser.add_argument("--version", action="version", version=f"braing3n {__version__}")
    add_remote(parser)
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for name, (summary, describe, fill) in _VERBS.items():
        child = verbs.add_parser(name, help=summary, description=f"{summary}.\n{describe[0]}", epilog=describe[1],
                                 formatter_class=_RAW)
        fill(child)
        _add_common(child, writes=name != "capabilities")
    add_worker(verbs)
    add_checkpoint_verbs(verbs)
    return parser


def _add_common(parser: argparse.ArgumentParser, writes: bool) -> None:
    group = parser.add_argument_group("running")
    group.add_argument("--checkpoint", default="small", metavar="DIR",
                       help="checkpoint folder (default: the embedded small)")
    group.add_argument("--device", default="auto", metavar="auto|cpu|cuda",
                       help="where the networks run (default: auto)")
    group.add_argument("--json", action="store_true",
                       help="result as one JSON object on stdout, progress as JSON lines on stderr")
    group.add_argument("--quiet", action="store_true", help="no progress and no list of files")
    if writes:
        is_demo = parser.prog.endswith("demo")
        group.add_argument("-o", "--out", required=not is_demo, default="demo_output", metavar="DIR",
                           help="folder for the results; made if it is not there"
                           + (" (default: demo_output)" if is_demo else ""))
        group.add_argument("--format", default="auto", metavar="auto|nifti|nrrd",
                           help="format of written images (default: auto, as the input)")


def _add_scan(parser: argparse.ArgumentParser, optional: bool = False) -> None:
    parser.add_argument("input", metavar="SCAN", nargs="?" if optional else None,
                        help="a 3D scan: .nii, .nii.gz or .nrrd" + (" (default: ICBM152)" if optional else ""))
    group = parser.add_argument_group("the scan")
    group.add_argument("--modality", default="T1", metavar="|".join(MODALITIES),
                       help="contrast of the scan (default: T1)")
    group.add_argument("--stage", default="auto", metavar="|".join(("auto", *STAGES)),
                       help="native: a whole head; stripped: a brain, 0 outside; registered: stripped and on the SRI24 "
                       "grid. auto looks at the voxels; a declaration that contradicts them is refused (default: auto)")
    group.add_argument("--brain", default="auto", metavar="|".join(("auto", *BRAIN_BACKENDS)),
                       help="how the brain is found; auto takes the best that is installed (default: auto)")
    group.add_argument("--mask", metavar="FILE", help="your own brain mask, in the grid of the scan")
    group.add_argument("--template", metavar="FILE", help="stripped T1 on the SRI24 grid to register to "
                       "(default: $BRAING3N_SRI24, else the cache, else ICBM152)")
    group.add_argument("--no-n4", action="store_true", help="the bias field is corrected already: skip N4")
    _add_seed(group)


def _add_seed(parser: argparse._ActionsContainer) -> None:
    parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same voxels (default: 0)")


def _counterfactual(parser: argparse.ArgumentParser) -> None:
    default = CounterfactualRequest("")
    _add_scan(parser)
    group = parser.add_argument_group("the edit")
    group.add_argument("--set", action="append", default=[], metavar="NAME=VALUE",
                       help="a condition to change: disease, sex, age (years), modality, site, idh1; repeat for more. "
                       "Without any, the null edit: the output equals the input")
    group.add_argument("--given", action="append", default=[], metavar="NAME=VALUE",
                       help="what is true of the scan; what is not given is read from it by the probes")
    group.add_argument("--strength", type=float, default=default.strength,
                       help="share of the path that is edited, 0 to 1 (default: 1)")
    group.add_argument("--method", default=default.method, metavar="|".join(EDIT_METHODS),
                       help="flowedit: no inversion; midpoint, fireflow: to noise and back; sdedit: noise added and "
                       f"removed, with --strength well under 1 (default: {default.method})")
    group.add_argument("--guidance", action="append", type=_guidance, default=[], metavar="[NAME=]SCALE",
                       help="how strongly the changed conditions are followed, 1 is off "
                       f"(default: {default.guidance_scale:g}); disease=2: of that condition alone; repeat for more")
    _add_steps(group, default.num_steps)
    _add_sampler(group, default.sampler, "integrator of flowedit and sdedit")
    _add_rendering(group)


def _forecast(parser: argparse.ArgumentParser) -> None:
    default = ForecastRequest("")
    _add_scan(parser)
    group = parser.add_argument_group("the forecast")
    group.add_argument("--years", type=float, nargs="+", default=list(default.horizons_years), metavar="YEARS",
                       help="years from the scan; 0 is the scan itself, negative looks back (default: 1 2 5)")
    group.add_argument("--age", type=float, metavar="YEARS", help="age at the scan (default: read by the probe)")
    group.add_argument("--sex", metavar="F|M", help="(default: read by the probe)")
    group.add_argument("--disease", metavar="WORD", help="e.g. HC, MCI, AD (default: read by the probe)")
    group.add_argument("--cdr", type=float, help="Clinical Dementia Rating, 0 to 3 (default: unknown)")
    group.add_argument("--samples", type=int, default=default.samples,
                       help="forecasts per horizon; their mean is written, "
                       f"their spread is the uncertainty (default: {default.samples})")
    group.add_argument("--no-uncertainty", action="store_true", help="do not write the map of the samples' spread")
    _add_sampling(group, default.guidance_scale, default.num_steps)
    _add_sampler(group, default.sampler, "integrator")
    _add_rendering(group)


def _generate(parser: argparse.ArgumentParser) -> None:
    default = GenerateRequest()
    group = parser.add_argument_group("the brains")
    group.add_argument("--set", action="append", default=[], metavar="NAME=VALUE",
                       help="a condition: disease, sex, age (years), modality (default: T1), site, idh1; "
                       "repeat for more")
    group.add_argument("--count", type=int, default=default.count, help="how many (default: 1)")
    _add_seed(group)
    _add_sampling(group, default.guidance_scale, default.num_steps)
    _add_sampler(group, default.sampler, "integrator; the paper's is euler with --steps 50")
    group.add_argument("--guidance-interval", type=float, nargs=2, default=list(default.guidance_interval),
                       metavar=("LO", "HI"), help="times from 0 (noise) to 1 (brain) in which guidance acts "
                       "(default: 0 1)")
    group.add_argument("--zero-star", action="store_true", help="CFG-Zero* guidance")
    group.add_argument("--guide-numbers", action="store_true",
                       help="amplify the age too, as the paper does; it is then further out than asked")
    group.add_argument("--exact-guidance", action="store_true",
                       help="ask what guidance adds at every evaluation, as the paper does, and not at every second "
                       "(up to a third slower)")
    group.add_argument("--noise-scale", type=float, metavar="SIZE",
                       help="size of white noise to start from: less is smoother and less various, 1 is the paper's "
                       "(default: the checkpoint's own noise for the contrast)")
    group.add_argument("--truncation", type=float, metavar="SHARE",
                       help="how much to keep of what sets a brain apart from the mean brain of its conditions, from 0 "
                       "(that mean) to 1: less is more typical and less various (default: 1)")
    group.add_argument("--reweighting", type=float, nargs=2, metavar=("COMMON", "SPECIFIC"),
                       help="how much to take of what a brain's tokens vary by together and of what each varies by "
                       "alone; 1 1 leaves brains as they were drawn, as in the paper (default: the checkpoint's own "
                       "for the contrast)")
    cohort = parser.add_argument_group("a cohort")
    cohort.add_argument("--bids", action="store_true", help="write a BIDS data set with participants.tsv and a privacy "
                        "report; run again, it goes on where it was stopped")
    cohort.add_argument("--participants", metavar="TSV", help="conditions by subject, one row each (columns age, sex, "
                        "disease ...); --count is then brains a row")
    cohort.add_argument("--shard", default="1/1", metavar="I/N",
                        help="part I of N, from 1: every N-th subject from the I-th (default: 1/1)")
    cohort.add_argument("--reference", metavar="PATH", help="latents of real scans that no brain may repeat: "
                        "latents.npy, or a folder that has it")


def _add_sampling(group: argparse._ActionsContainer, guidance: float | None, steps: int) -> None:
    default = f"the checkpoint's own for the disease, else {GUIDANCE_SCALE:g}" if guidance is None else f"{guidance:g}"
    group.add_argument("--guidance", type=float, default=guidance, metavar="SCALE",
                       help=f"how strongly the conditions are followed; 1 is off (default: {default})")
    _add_steps(group, steps)


def _guidance(text: str) -> tuple[str, float]:
    """``disease=2`` as the factor of one condition, ``1.5`` as that of all, whose name is empty."""
    name, equals, scale = text.rpartition("=")
    if equals and not name.strip():
        raise argparse.ArgumentTypeError(f"write SCALE or NAME=SCALE, got {text!r}")
    try:
        return name.strip(), float(scale)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"a guidance is a number, got {scale!r}") from error


def _add_steps(group: argparse._ActionsContainer, steps: int) -> None:
    group.add_argument("--steps", type=int, default=steps, help=f"steps of the integrator (default: {steps})")


def _add_sampler(group: argparse._ActionsContainer, sampler: str, what: str) -> None:
    group.add_argument("--sampler", default=sampler, metavar="|".join(SAMPLERS), help=f"{what} (default: {sampler})")


def _add_rendering(group: argparse._ActionsContainer) -> None:
    group.add_argument("--rendering", default="residual", metavar="|".join(RENDERINGS),
                       help="residual: the scan's own voxels plus the decoded change; full: the decoded brain "
                       "(default: residual)")


def _request_file(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("input", metavar="REQUEST.json", help="a request as JSON, as in the example below")


def _demo(parser: argparse.ArgumentParser) -> None:
    _add_scan(parser, optional=True)


def _nothing(parser: argparse.ArgumentParser) -> None:
    pass


def _manual(text: str, files: str, examples: str) -> tuple[str, str]:
    written = f"files written, for an input sub-01_T1w.nii.gz:\n{files}\n{_FILES}\n\n" if files else ""
    return f"{text}\n{_NOTE}", f"{written}examples:\n{examples}"


_PAIR = (
    "  sub-01_space-native_desc-{0}_T1w.nii.gz         in the grid of the input\n"
    "  sub-01_space-SRI24_desc-{0}_T1w.nii.gz          in the atlas grid\n"
    "  sub-01_space-{{native,SRI24}}_desc-difference{1}_T1w.nii.gz   synthetic minus input, intensity of the input"
)

_VERBS: dict[str, tuple[str, tuple[str, str], Callable[[argparse.ArgumentParser], None]]] = {
    "preprocess": ("Bring a scan onto the SRI24 atlas grid", _manual(
        "Bias field (N4), brain extraction, affine registration, one resampling; 1 mm, 240x240x155.",
        "  sub-01_space-SRI24_desc-preproc_T1w.nii.gz\n  sub-01_space-{native,SRI24}_desc-brain_mask.nii.gz",
        "  braing3n preprocess sub-01_T1w.nii.gz -o out\n"
        "  braing3n preprocess brain.nrrd --modality FLAIR --stage stripped -o out",
    ), _add_scan),
    "examine": ("Say how far the scan is prepared already, and why", _manual(
        "The stage that preprocessing would work from, with the evidence of the voxels and of the BIDS sidecar.\n"
        "A --stage that they contradict is an error.",
        "  stage.json", "  braing3n examine sub-01_T1w.nii.gz -o out",
    ), _add_scan),
    "encode": ("Write the scan as tokens, embedding and latents", _manual(
        "Preprocesses, then encodes: tokens (1200,D) float16, their mean (D,) and the latents (1200,32).",
        "  sub-01_desc-encoding.npz        arrays: tokens, embedding, latents",
        "  braing3n encode sub-01_T1w.nii.gz -o out",
    ), _add_scan),
    "probe": ("Read clinical variables from the scan", _manual(
        "Each reading comes with an interval or probabilities, the probe's quality and whether the scan\n"
        "resembles what the probes were fitted on.",
        "  probes.json", "  braing3n probe sub-01_T1w.nii.gz -o out\n  braing3n probe sub-01_T1w.nii.gz -o out --json",
    ), _add_scan),
    "reconstruct": ("Encode and decode the scan: what the tokenizer keeps", _manual(
        "The decoded brain, in both grids; its error inside the brain is in provenance.json.",
        "  sub-01_space-{native,SRI24}_desc-reconstruction_T1w.nii.gz",
        "  braing3n reconstruct sub-01_T1w.nii.gz -o out",
    ), _add_scan),
    "generate": ("Draw new brains from noise under conditions", _manual(
        "On the atlas grid; conditions that are not set are unknown to the model.",
        "", "  braing3n generate --set disease=AD --set age=80 --count 2 -o out\n"
        "  braing3n generate --bids --set sex=F --set age=70 --count 100 --shard 1/4 -o cohort\n"
        "writes sub-synthetic01_space-SRI24_desc-generated_T1w.nii.gz, ... and probes.json.",
    ), _generate),
    "counterfactual": ("Edit the scan: the same brain under other conditions", _manual(
        "Changes only what --set names; the patient's own detail is kept. Without --set the output equals\n"
        "the input voxel for voxel.",
        _PAIR.format("counterfactual", ""),
        "  braing3n counterfactual sub-01_T1w.nii.gz --set disease=AD --set age=80 -o out\n"
        "  braing3n counterfactual sub-01_T1w.nii.gz --given disease=HC --given age=61 --set disease=AD -o out",
    ), _counterfactual),
    "forecast": ("Move the scan in time", _manual(
        "An ensemble per horizon: its mean is the forecast, its spread the uncertainty. What is not given\n"
        "about the patient is read by the probes, and the result says so.",
        _PAIR.format("forecast_years-5", "_years-5") +
        "\n  sub-01_space-{native,SRI24}_desc-uncertainty_years-5_T1w.nii.gz   spread at the furthest horizon"
        "\n  forecast.json                   what the probes read at each horizon, with 5-95 % intervals",
        "  braing3n forecast sub-01_T1w.nii.gz --age 72 --sex F --disease MCI --years 1 2 5 -o out\n"
        "  braing3n forecast sub-01_T1w.nii.gz --years 0.5 10 --samples 16 --seed 7 -o out",
    ), _forecast),
    "capabilities": ("Say what this installation and this checkpoint can do", _manual(
        "Vocabularies, ranges, verbs, brain extraction backends, probes with their quality, device and why.",
        "", "  braing3n capabilities\n  braing3n capabilities --json",
    ), _nothing),
    "demo": ("Run everything on one scan and write a report with pictures", _manual(
        "Preprocess, probe, reconstruct, counterfactual (disease=AD) and forecast (1, 2, 5, 10 years).\n"
        "Without SCAN it takes ICBM152, the average of 152 young adults that the nilearn package carries.",
        "", "  braing3n demo\n  braing3n demo sub-01_T1w.nii.gz -o demo_output\n"
        "writes report.html, pictures/, and the files of the other verbs in one folder each.",
    ), _demo),
    "run": ("Run a request that a program wrote as JSON", _manual(
        "For programs. Fields are those of braing3n_core.schema; an unknown field is refused by name.",
        "", '  echo \'{"kind": "counterfactual", "input": "T1.nii.gz", "target": {"disease": "AD"}}\' > request.json\n'
        "  python -m braing3n_core run request.json -o out --json\n"
        "stderr: one {\"progress\": fraction, \"message\": text} a line; stdout: one object, the result or\n"
        "{\"error\": {\"code\", \"message\", \"hint\"}}. SIGINT and SIGTERM cancel: exit code 130.",
    ), _request_file),
}

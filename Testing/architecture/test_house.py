"""The rules of the house, read from the syntax trees (docs/architecture.md)."""

from __future__ import annotations

import ast
import re

import pytest

from .source import CORE, REPOSITORY, SOURCE_FOLDERS, STANDARD_LIBRARY, Module, modules, tracked_texts, under

BOXES = tuple(f"{CORE}.{box}" for box in ("preprocess", "models", "generation", "probes"))
PLAIN = tuple(f"{CORE}.{name}" for name in ("schema", "progress", "errors", "protocol"))
FACES = tuple(f"{CORE}.{name}" for name in ("cli", "console", "worker", "__main__"))
ENGINE = tuple(f"{CORE}.{name}" for name in ("engine", "loading", "inference", "editing", "drawing", "rendering"))
"""The engine and its parts: the only place where preprocessing, networks, samplers and probes meet."""
REMOTE = (
    "remote", "wire", "encoding", "local_worker", "outputs", "atomic", "volume", "grid", "nifti", "nrrd", "voxels",
    "byte_stream",
)
"""The client of a worker and what it needs to name and write files."""
ALL_CODE = ("braing3n_core", "training", "benchmarks", "BrainG3NSlicer")


def offences(code: tuple[Module, ...], forbidden: object) -> list[str]:
    """``file imports name`` for every import that the predicate forbids."""
    return [f"{m.place} imports {name}" for m in code for name in m.imports() if forbidden(name)]  # type: ignore[operator]


def core(*prefixes: str) -> tuple[Module, ...]:
    return tuple(m for m in modules(CORE) if not prefixes or under(m.name, *prefixes))


def outside(name: str) -> bool:
    """Neither the standard library nor the core."""
    return name.split(".")[0] not in STANDARD_LIBRARY and not under(name, CORE)


def test_models_know_torch_and_each_other_and_nothing_else() -> None:
    allowed = ("torch", f"{CORE}.models")
    assert not offences(
        core(f"{CORE}.models"), lambda n: n.split(".")[0] not in STANDARD_LIBRARY and not under(n, *allowed)
    )


def test_generation_never_sees_a_network() -> None:
    strangers = tuple(f"{CORE}.{name}" for name in ("models", "checkpoint", "engine", "preprocess", "probes"))
    assert not offences(core(f"{CORE}.generation"), lambda n: under(n, *strangers))


def test_schema_progress_and_errors_need_the_standard_library_alone() -> None:
    assert not offences(core(*PLAIN), lambda n: outside(n) or (under(n, CORE) and not under(n, *PLAIN)))


def test_the_client_needs_only_what_slicer_bundles() -> None:
    def forbidden(name: str) -> bool:
        return (outside(name) and not under(name, "numpy", "requests", "zstandard")) or (
            under(name, CORE) and not (name == f"{CORE}.__version__" or under(name, *PLAIN, *client, lazy))
        )

    client = tuple(f"{CORE}.{name}" for name in ("client", "child", *REMOTE))
    lazy = f"{CORE}.dicom"  # it imports SimpleITK only when it reads a series, which the client never asks for
    assert not offences(core(*client), forbidden)


def test_the_api_process_never_imports_the_models() -> None:
    heavy = ("torch", "numpy", "scipy", "SimpleITK", "ants", "nibabel", f"{CORE}.engine", f"{CORE}.volume", *BOXES)
    apart = tuple(f"{CORE}.worker.{name}" for name in ("executor", "parser", "rehearsal"))
    api = tuple(m for m in core(f"{CORE}.worker") if not under(m.name, *apart))
    assert len(api) > 10
    assert not offences(api, lambda n: under(n, *heavy))


def test_the_core_never_imports_slicer_training_or_tests() -> None:
    assert not offences(core(), lambda n: under(n, "slicer", "qt", "vtk", "ctk", "training", "Testing", "benchmarks"))


def test_only_the_engine_and_its_parts_bring_two_boxes_together() -> None:
    mixed = []
    for module in core():
        if under(module.name, *ENGINE):
            continue
        seen = {box for box in BOXES for name in [module.name, *module.imports()] if under(name, box)}
        if len(seen) > 1:
            mixed.append(f"{module.place} joins {', '.join(sorted(seen))}")
    assert not mixed


def test_nobody_below_them_imports_the_faces() -> None:
    below = tuple(m for m in core() if not under(m.name, *FACES))
    assert not offences(below, lambda n: under(n, *FACES))


def test_the_core_prints_nothing() -> None:
    found = [m.place for m in core() if not under(m.name, *FACES) for _, name in m.calls() if name == "print"]
    assert not found


def test_no_assert_stands_for_validation() -> None:
    code = modules(*ALL_CODE)
    assert not [f"{m.place}:{n.lineno}" for m in code for n in ast.walk(m.tree) if isinstance(n, ast.Assert)]


def test_nothing_unpickles_a_users_file() -> None:
    pickles = ("pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal")
    assert not offences(core(), lambda n: under(n, *pickles))
    loaders = ("torch.load", "np.load")
    for place, call in [(m.place, call) for m in modules(*ALL_CODE) for call, name in m.calls() if name in loaders]:
        words = {k.arg: ast.unparse(k.value) for k in call.keywords}
        unsafe = words.get("allow_pickle", "False") != "False"
        if ast.unparse(call.func) == "torch.load":
            unsafe = words.get("weights_only") != "True"
        assert not unsafe, f"{place}:{call.lineno} may unpickle"


def test_no_file_is_longer_than_400_lines() -> None:
    assert not [f"{m.place}: {m.lines}" for m in modules(*SOURCE_FOLDERS) if m.lines > 400]


def functions(module: Module) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    return [n for n in ast.walk(module.tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]


def test_no_function_is_longer_than_50_lines() -> None:
    long = [
        f"{m.place}:{f.lineno} {f.name}: {f.end_lineno - f.lineno + 1}"
        for m in modules(*SOURCE_FOLDERS) for f in functions(m) if (f.end_lineno or 0) - f.lineno >= 50
    ]  # fmt: skip
    assert not long


def test_more_than_six_parameters_are_a_dataclass() -> None:
    many = []
    for module in modules(*ALL_CODE):
        for f in functions(module):
            names = [a.arg for a in (*f.args.posonlyargs, *f.args.args, *f.args.kwonlyargs)]
            if len([n for n in names if n not in ("self", "cls", "progress", "cancel")]) > 6:
                many.append(f"{module.place}:{f.lineno} {f.name}: {len(names)}")
    assert not many


def test_no_file_is_a_drawer_for_everything() -> None:
    drawers = ("utils.py", "util.py", "helpers.py", "common.py", "misc.py")
    assert not [m.place for m in modules(*SOURCE_FOLDERS) if m.path.name in drawers]


def test_every_module_class_and_function_of_the_core_says_what_it_is_for() -> None:
    silent = []
    for module in core():
        if module.tree.body and ast.get_docstring(module.tree) is None:
            silent.append(module.place)
        for node in module.tree.body:
            is_public = isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
            if is_public and ast.get_docstring(node) is None:
                silent.append(f"{module.place}:{node.lineno} {node.name}")
    assert not silent


def test_every_decision_that_the_code_cites_is_recorded() -> None:
    recorded = {int(path.name[:4]) for path in (REPOSITORY / "docs" / "adr").glob("[0-9][0-9][0-9][0-9]-*.md")}
    cited = {
        (place, int(number)) for place, text in tracked_texts() if not place.startswith("docs/adr/")
        for number in re.findall(r"\bADR (\d+)\b", text)
    }  # fmt: skip
    assert not [f"{place} cites ADR {number}" for place, number in sorted(cited) if number not in recorded]


def test_every_test_that_the_documentation_names_exists() -> None:
    defined = {f"{m.place}::{f.name}" for m in modules("Testing") for f in functions(m)}
    named = {
        (place, name) for place, text in tracked_texts() if place.endswith(".md")
        for name in re.findall(r"Testing/[\w/]+\.py::\w+", text)
    }  # fmt: skip
    assert not [f"{place} names {name}" for place, name in sorted(named) if name not in defined]


def test_no_tracked_file_knows_a_folder_of_one_machine() -> None:
    private = re.compile(r"(?<![\w.~)}])/(?:work|home|root|Users)/[\w.]+")
    found = [f"{place}: {hit}" for place, text in tracked_texts() for hit in private.findall(text)]
    assert not found


@pytest.mark.parametrize("limit_mb", [40])
def test_the_embedded_checkpoints_stay_small(limit_mb: int) -> None:
    folder = REPOSITORY / CORE / "checkpoints"
    assert sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) <= limit_mb * 1e6

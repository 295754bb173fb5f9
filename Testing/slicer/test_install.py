"""What the local worker needs: found, named, asked about once, and installed by Slicer's own means."""

from __future__ import annotations

import sys
import tomllib
import types
from pathlib import Path

import pytest

slicer = pytest.importorskip("slicer", reason="pip install slicer-core")

from BrainG3NLib import Cache, Install, Samples

from braing3n_core.errors import BrainG3NError, DependencyError

from .conftest import REPOSITORY


def state(broken: dict[str, str], python: str = sys.executable) -> Install.State:
    return Install.State(python, python == sys.executable, broken)


@pytest.fixture
def pip(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What Slicer's installers were asked for; they would change this computer."""
    asked: list[object] = []
    packaging = types.SimpleNamespace(pip_ensure=lambda names, **options: asked.append(("ensure", names, options)))
    monkeypatch.setattr(slicer, "packaging", packaging, raising=False)
    monkeypatch.setattr(slicer.util, "pip_install", lambda names: asked.append(("pip", names)), raising=False)
    return asked


def test_the_packages_are_those_of_the_projects_extras() -> None:
    extras = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    wanted = {line.split(">")[0] for line in [*extras["preprocess"], *extras["worker"], *extras["torch"]]}
    assert set(Install.packages()) == wanted - {"torch"}


def test_a_python_is_judged_by_what_is_really_on_its_disk(tmp_path: Path) -> None:
    info = tmp_path / "nibabel-5.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: nibabel\nVersion: 5\n")
    (info / "RECORD").write_text("nibabel/__init__.py,,\nnibabel/gone.py,,\nnibabel/old.pyc,,\n")
    (tmp_path / "nibabel").mkdir()
    (tmp_path / "nibabel" / "__init__.py").write_text("")
    found = Install.judge(sys.executable, {"PYTHONPATH": str(tmp_path)})
    assert found.isSlicers and found.broken["nibabel"] == "1 of its files are missing, for example nibabel/gone.py"
    assert Install.partition(found)[1] == ["nibabel"]
    (tmp_path / "nibabel" / "gone.py").write_text("")
    assert "nibabel" not in Install.judge(sys.executable, {"PYTHONPATH": str(tmp_path)}).broken


@pytest.mark.parametrize("python", ["/nowhere/python", "/bin/true", "/"])
def test_what_is_no_python_is_a_sentence(python: str) -> None:
    with pytest.raises(DependencyError, match="could not be asked"):
        Install.judge(python)


def test_missing_and_damaged_packages_of_ones_own_python_are_a_line_to_type() -> None:
    mine = state({"antspyx": Install.ABSENT, "scipy": "ImportError: libx.so"}, "/mine/python")
    assert Install.command(mine) == (
        '"/mine/python" -m pip install antspyx && "/mine/python" -m pip install --force-reinstall --no-deps scipy'
    )
    assert Install.command(mine) in mine.text()
    with pytest.raises(DependencyError, match="not Slicer's own"):
        Install.install(mine)


def test_the_question_names_every_package_and_its_size_before_anything_happens(pip: list[object]) -> None:
    text = Install.question(state({"torch": Install.ABSENT, "scipy": Install.ABSENT}))
    assert "PyTorch extension" in text and "scipy" in text and f"{Install.DISK_MB} MB" in text
    assert "remote worker needs none" in text and not pip


def test_slicers_own_python_is_completed_by_slicers_packaging(pip: list[object]) -> None:
    Install.install(state({"antspyx": Install.ABSENT, "scipy": "ImportError: libx.so"}))
    assert pip == [("pip", ["--force-reinstall", "--no-deps", "scipy"]),
                   ("ensure", ["antspyx"], {"prompt_install": False, "requester": "BrainG3N"})]  # fmt: skip


def test_an_older_slicer_is_completed_by_its_pip(pip: list[object], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(slicer, "packaging")
    Install.install(state({"scipy": Install.ABSENT}))
    assert pip == [("pip", ["scipy"])]


def test_pytorch_comes_from_its_extension_or_not_at_all(pip: list[object]) -> None:
    with pytest.raises(DependencyError, match="PyTorch extension") as caught:
        Install.install(state({"torch": Install.ABSENT, "scipy": Install.ABSENT}))
    assert "Extensions Manager" in caught.value.hint and not pip


def test_a_refused_or_failed_installation_is_a_sentence(pip: list[object], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(names: list[str], **_: object) -> None:
        raise RuntimeError("no network")

    monkeypatch.setattr(slicer.packaging, "pip_ensure", refuse)
    with pytest.raises(DependencyError, match="scipy could not be installed: no network"):
        Install.install(state({"scipy": Install.ABSENT}))


def test_the_cache_is_measured_and_cleared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert Cache.sizeInBytes() == 0 and "Nothing was downloaded" in Cache.text() and Cache.clear() == 0
    Cache.folder().mkdir()
    (Cache.folder() / "weights").write_bytes(b"x" * 3_000_000)
    assert Cache.text().startswith("3.0 MB in ")
    assert Cache.clear() == 3_000_000 and not Cache.folder().exists()


def test_a_cache_that_is_a_link_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "precious").mkdir()
    Cache.folder().symlink_to(tmp_path / "precious")
    with pytest.raises(BrainG3NError, match="link to another folder"):
        Cache.clear()
    assert (tmp_path / "precious").is_dir()


def test_the_sample_is_the_head_that_nilearn_carries() -> None:
    pytest.importorskip("nilearn", reason="pip install nilearn")
    assert Samples.find().stat().st_size > 100_000


def test_without_nilearn_the_sample_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(Samples.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(slicer.util, "errorDisplay", said.append, raising=False)
    assert Samples.load() == [] and "no nilearn" in said[0]

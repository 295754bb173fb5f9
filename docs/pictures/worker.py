"""Draws worker.svg, the processes of the worker: ``python docs/pictures/worker.py``."""

from __future__ import annotations

from pathlib import Path

WIDTH, HEIGHT = 920, 430
STYLE = (
    "text{font-size:14px;font-family:sans-serif;fill:#222}.head{font-weight:bold}.small{font-size:12px;fill:#555}"
    "rect{fill:#fff;stroke:#446;stroke-width:1.5}.machine{fill:#f3f5fa;stroke:#99a;stroke-dasharray:5 4}"
    "path{fill:none;stroke:#446;stroke-width:1.5;marker-end:url(#tip)}"
)
BOXES: tuple[tuple[int, int, int, int, str, tuple[str, ...]], ...] = (
    (20, 120, 190, 130, "Client", ("3D Slicer, RemoteEngine,", "braing3n --worker", "keeps the file's name")),
    (350, 120, 230, 130, "API process", ("tokens, uploads, jobs, files", "no torch, reads no voxel", "for all users")),
    (350, 310, 230, 90, "Spool", ("SQLite: jobs, hashed tokens", "files, audit trail")),
    (680, 60, 210, 110, "Parser", ("a fork for each new file,", "limits of memory and time")),
    (680, 240, 210, 130, "Executor", ("the warm engine,", "one for each GPU,", "one job at a time")),
)
ARROWS: tuple[tuple[str, int, int, str], ...] = (
    ("M210 175 H348", 222, 165, "HTTPS, token"), ("M350 205 H212", 222, 224, "results"),
    ("M465 250 V308", 474, 284, "before it acknowledges"), ("M580 160 L678 115", 590, 116, "is it sound?"),
    ("M580 215 L678 290", 634, 246, "job"),
)  # fmt: skip


def drawing() -> str:
    """The picture as SVG."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
        "<title>The processes of the worker</title>", f"<style>{STYLE}</style>",
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
        '<polygon points="0,0 8,4 0,8" fill="#446"/></marker></defs>',
        f'<rect width="{WIDTH}" height="{HEIGHT}" style="stroke:none"/>',
        '<rect class="machine" x="330" y="20" width="575" height="395" rx="8"/>', _text(345, 45, "Server", "head"),
    ]  # fmt: skip
    for x, y, width, height, head, lines in BOXES:
        parts.append(f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="6"/>')
        parts.append(_text(x + 12, y + 26, head, "head"))
        parts += [_text(x + 12, y + 50 + 20 * n, line) for n, line in enumerate(lines)]
    for path, x, y, word in ARROWS:
        parts += [f'<path d="{path}"/>', _text(x, y, word, "small")]
    return "\n".join([*parts, "</svg>"]) + "\n"


def _text(x: int, y: int, words: str, kind: str = "") -> str:
    return f'<text x="{x}" y="{y}"{f" class={chr(34)}{kind}{chr(34)}" if kind else ""}>{words}</text>'


if __name__ == "__main__":
    Path(__file__).with_suffix(".svg").write_text(drawing(), encoding="utf-8")

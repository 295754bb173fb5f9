"""The report of finished tables: ``report.html`` holds its pictures itself, ``report.md`` has them beside it."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from braing3n_core import __version__
from braing3n_core.atomic import atomic_file

from .table import Table

WARNING = (
    "SYNTHETIC: every generated, edited or forecast brain here was made by a model. Numbers on digital phantoms are no "
    "claim about patients; the paper's numbers beside them are on patients, with other models and other data. "
    "'Real' means the scans of the data that each table names."
)


def write_report(folder: Path, title: str, facts: dict[str, str], tables: Sequence[Table]) -> Path:
    """Write both forms into ``folder``; the HTML's path. facts: what was evaluated, on what, by which command."""
    with atomic_file(folder / "report.md") as handle:
        handle.write(_markdown(title, facts, tables).encode())
    with atomic_file(folder / "report.html") as handle:
        handle.write(_html(folder, title, facts, tables).encode())
    return folder / "report.html"


def _markdown(title: str, facts: dict[str, str], tables: Sequence[Table]) -> str:
    parts = [f"# {title}\n\n**{WARNING}**\n", "\n".join(f"- {k}: {v}" for k, v in facts.items()) + "\n"]
    for table in tables:
        pictures = "".join(f"\n![{p.caption}](pictures/{p.name})\n" for p in table.pictures)
        parts.append(f"## {table.title}\n\n{table.markdown()}{pictures}\n[As TSV](tables/{table.name}.tsv)\n")
    return "\n".join(parts)


def _html(folder: Path, title: str, facts: dict[str, str], tables: Sequence[Table]) -> str:
    style = resources.files("braing3n_core").joinpath("report.css").read_text(encoding="utf-8")
    rows = "".join(f"<tr><th>{html.escape(k)}</th><td>{html.escape(v)}</td></tr>" for k, v in facts.items())
    links = "".join(f'<li><a href="#{t.name}">{html.escape(t.title)}</a></li>' for t in tables)
    body = "\n".join(_section(folder, table) for table in tables)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>\n'
        f'<meta name="viewport" content="width=device-width"><style>{style}</style></head><body>\n'
        f'<header><h1>{html.escape(title)}</h1>\n<p class="warn">{html.escape(WARNING)}</p>\n'
        f"<table>{rows}</table><ol>{links}</ol></header>\n<main>\n{body}\n</main>\n"
        f"<footer>BrainG3N {__version__}</footer></body></html>\n"
    )


def _section(folder: Path, table: Table) -> str:
    head = "".join(f"<th>{html.escape(c)}</th>" for c in table.columns)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(c)}</td>" for c in row) + "</tr>" for row in table.rows)
    notes = "".join(f'<p class="note">{html.escape(note)}</p>' for note in table.notes)
    pictures = "".join(_figure(folder / "pictures" / p.name, p.caption) for p in table.pictures)
    return (
        f'<section id="{table.name}"><h2>{html.escape(table.title)}</h2>\n<p>Data: {html.escape(table.data)}</p>\n'
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>\n{notes}{pictures}</section>"
    )


def _figure(path: Path, caption: str) -> str:
    data, words = base64.b64encode(path.read_bytes()).decode(), html.escape(caption)
    return (
        f'<figure><img src="data:image/png;base64,{data}" alt="{words}"><figcaption>{words}</figcaption></figure>'
    )

"""One self-contained HTML page: no scripts, no network, pictures inside."""

import base64
import io
import os
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import NamedTuple

from matplotlib.figure import Figure

from energeia.report.style import DPI, WIDTH


class Section(NamedTuple):
    """One part of the page.

    title: its heading.
    text: what it shows, what to look for and what would be bad; blank lines part paragraphs.
    figures: (figure, what it shows for those who cannot see it).
    table: rows of cells, the first row the header; None for no table.
    note: a line in smaller type, such as what is missing.
    code: text shown as it is, folded until asked for, under its heading.
    """

    title: str
    text: str = ""
    figures: Sequence[tuple[Figure, str]] = ()
    table: Sequence[Sequence[str]] | None = None
    note: str = ""
    code: tuple[str, str] | None = None


def write_report(
    path: str | Path,
    *,
    title: str,
    summary: Mapping[str, str] | None = None,
    sections: Sequence[Section] = (),
    introduction: str = "",
) -> Path:
    """Write the page: a title, the headline figures, then the sections.

    It is one file that opens anywhere, offline, on a phone and on paper, light or
    dark. All text is escaped; the same input gives the same bytes. It is written
    under a temporary name and renamed, so a reader never finds half a page.

    Args:
        path: the file to write; its folder is made if needed.
        title: heading of the page.
        summary: headline figures by name, in order.
        sections: the parts below.
        introduction: a paragraph or more under the title.

    Returns:
        The path.

    >>> import tempfile
    >>> from energeia.report.html import write_report
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     page = write_report(f"{folder}/report.html", title="A & B").read_text(encoding="utf-8")
    >>> "<h1>A &amp; B</h1>" in page
    True
    """
    target = Path(path)
    contents = "".join(f'<li><a href="#part-{n}">{escape(part.title)}</a></li>' for n, part in enumerate(sections, 1))
    page = _PAGE.substitute(
        title=escape(title),
        introduction=_paragraphs(introduction),
        summary=_summary(summary or {}),
        contents=f"<nav><ul>{contents}</ul></nav>" if len(sections) > 2 else "",
        sections="".join(_section(number, part) for number, part in enumerate(sections, 1)),
        style=_STYLE,
    )
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.partial")
    partial.write_text(page, encoding="utf-8")
    os.replace(partial, target)
    return target


def _section(number: int, part: Section) -> str:
    pieces = [f"<h2>{escape(part.title)}</h2>", _paragraphs(part.text)]
    pieces += [_image(figure, alt) for figure, alt in part.figures]
    if part.table:
        pieces.append(_table(part.table))
    if part.note:
        pieces.append(f'<p class="note">{escape(part.note)}</p>')
    if part.code is not None:
        heading, code = part.code
        pieces.append(f"<details><summary>{escape(heading)}</summary><pre>{escape(code)}</pre></details>")
    return f'<section id="part-{number}">{"".join(pieces)}</section>\n'


def _paragraphs(text: str) -> str:
    return "".join(f"<p>{escape(part.strip())}</p>" for part in text.split("\n\n") if part.strip())


def _summary(summary: Mapping[str, str]) -> str:
    if not summary:
        return ""
    cells = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in summary.items())
    return f'<dl class="summary">{cells}</dl>'


def _table(rows: Sequence[Sequence[str]]) -> str:
    header, *body = rows
    numeric = [all(_looks_numeric(row[place]) for row in body) for place in range(len(header))]
    head = _row(header, numeric, heads=len(header)) if any(header) else ""
    lines = "".join(_row(row, numeric, heads=1) for row in body)
    return f'<div class="wide"><table><thead>{head}</thead><tbody>{lines}</tbody></table></div>'


def _row(cells: Sequence[str], numeric: Sequence[bool], *, heads: int) -> str:
    """A table row; numbers stand at the right of their column, and the first `heads` cells are headers."""
    parts: list[str] = []
    for place, (cell, right) in enumerate(zip(cells, numeric, strict=True)):
        tag = "th" if place < heads else "td"
        mark = ' class="number"' if right else ' class="long"' if len(cell) > 30 else ""
        parts.append(f"<{tag}{mark}>{escape(cell)}</{tag}>")
    return f"<tr>{''.join(parts)}</tr>"


def _looks_numeric(cell: str) -> bool:
    return cell[:1].isdigit() or (cell[:1] in "+-" and cell[1:2].isdigit())


def _image(figure: Figure, alt: str) -> str:
    buffer = io.BytesIO()
    # Without "Software" the bytes do not change with the version of matplotlib's metadata.
    figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    width, height = (round(inches * DPI) for inches in figure.get_size_inches())
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    # Figures are drawn for one width, so narrow ones are shown narrower and text stays one size.
    share = f"{figure.get_size_inches()[0] / WIDTH:.0%}"
    return (
        f'<figure><img src="data:image/png;base64,{data}" alt="{escape(alt)}" '
        f'width="{width}" height="{height}" style="max-width:{share}"></figure>'
    )


_STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #22262b; --soft: #5d6571; --line: #d9dde3; --tint: #f4f6f8;
  --link: #0072b2; }
@media (prefers-color-scheme: dark) { :root { --paper: #16181b; --ink: #e6e8eb; --soft: #a2aab5; --line: #3a3f46;
  --tint: #1f2226; --link: #6db9ea; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); -webkit-text-size-adjust: 100%;
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main { max-width: 44rem; margin: 0 auto; padding: 1.5rem 1rem 4rem; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0.5rem 0 0.75rem; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; line-height: 1.3; margin: 0 0 0.5rem; }
p { margin: 0 0 0.9rem; }
a { color: var(--link); }
.note { color: var(--soft); font-size: 0.9rem; }
section { margin-top: 2.25rem; padding-top: 1.5rem; border-top: 1px solid var(--line); }
nav ul { list-style: none; margin: 1.25rem 0 0; padding: 0; display: flex; flex-wrap: wrap; gap: 0.3rem 1.1rem;
  font-size: 0.9rem; }
.summary { display: grid; grid-template-columns: repeat(auto-fill, minmax(9.5rem, 1fr)); gap: 1px; margin: 1.25rem 0 0;
  border: 1px solid var(--line); border-radius: 6px; overflow: hidden; }
.summary div { outline: 1px solid var(--line); padding: 0.6rem 0.8rem; }
.summary dt { color: var(--soft); font-size: 0.82rem; line-height: 1.3; }
.summary dd { margin: 0.15rem 0 0; font-size: 1.15rem; font-weight: 600; font-variant-numeric: tabular-nums;
  overflow-wrap: anywhere; }
figure { margin: 0 0 1rem; max-width: 38rem; }
img { display: block; width: 100%; height: auto; background: #fff; border-radius: 4px; }
.wide { overflow-x: auto; margin: 0 0 1rem; }
table { border-collapse: collapse; font-size: 0.9rem; font-variant-numeric: tabular-nums; min-width: 60%; }
th, td { text-align: left; padding: 0.35rem 1.1rem 0.35rem 0; border-bottom: 1px solid var(--line);
  vertical-align: top; }
.number { text-align: right; }
td.number { white-space: nowrap; }
@media (max-width: 30rem) { th, td { padding-right: 0.7rem; } }
thead th { color: var(--soft); font-weight: 600; }
tbody th { font-weight: 400; }
td.long { min-width: 9.5rem; }
details { border: 1px solid var(--line); border-radius: 6px; padding: 0.5rem 0.8rem; }
details summary { cursor: pointer; }
pre { overflow-x: auto; font: 0.82rem/1.45 ui-monospace, Menlo, Consolas, monospace; margin: 0.6rem 0 0.2rem; }
@media print {
  :root { color-scheme: light; --paper: #fff; --ink: #000; --soft: #444; --line: #bbb; --tint: #fff; --link: #000; }
  body { font-size: 10.5pt; }
  main { max-width: none; padding: 0; }
  nav { display: none; }
  h2, thead { break-after: avoid; page-break-after: avoid; }
  section, figure, tr, .summary div { break-inside: avoid; page-break-inside: avoid; }
  figure { max-width: 13cm; }
  img { max-height: 20cm; object-fit: contain; object-position: left; }
  pre { white-space: pre-wrap; }
  details::details-content { content-visibility: visible; block-size: auto; }
  @page { margin: 1.8cm; }
}
"""

_PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="generator" content="Energeia">
<title>$title</title>
<style>$style</style>
</head>
<body>
<main>
<header><h1>$title</h1>$introduction$summary$contents</header>
$sections</main>
</body>
</html>
""")

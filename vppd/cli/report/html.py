"""A report as one HTML file that needs nothing else: styles and plots are inside. Pure."""

from collections.abc import Iterator
from html import escape

from vppd.cli.report.document import Document, Heading, Picture, Rows, Sentence

_STYLE = """
body { font: 15px/1.5 sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em; color: #222 }
table { border-collapse: collapse; margin: 1em 0 }
th, td { border-bottom: 1px solid #ddd; padding: .25em .8em; text-align: left }
td.r, th.r { text-align: right; font-variant-numeric: tabular-nums }
p.loud { font-weight: bold; border-left: 4px solid #c2571a; padding-left: .8em }
svg { max-width: 100%; height: auto }
"""


def html(document: Document) -> str:
    """The report as HTML. No script, nothing fetched."""
    return "\n".join(_lines(document)) + "\n"


def _lines(document: Document) -> Iterator[str]:
    title = escape(document.title)
    yield '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
    yield f"<title>{title}</title><style>{_STYLE}</style></head><body>"
    yield f"<h1>{title}</h1>"
    for part in document.parts:
        match part:
            case Heading(text):
                yield f"<h2>{escape(text)}</h2>"
            case Sentence(text, loud):
                yield f'<p class="loud">{escape(text)}</p>' if loud else f"<p>{escape(text)}</p>"
            case Rows():
                yield from _table(part)
            case Picture(_, svg):
                yield f"<figure>{svg}</figure>"
    yield "</body></html>"


def _table(table: Rows) -> Iterator[str]:
    kinds = [' class="r"' if side == "r" else "" for side in table.sides]
    head = zip(kinds, table.head, strict=True)
    yield f"<table><tr>{''.join(f'<th{kind}>{escape(cell)}</th>' for kind, cell in head)}</tr>"
    for row in table.rows:
        cells = zip(kinds, row, strict=True)
        yield f"<tr>{''.join(f'<td{kind}>{escape(cell)}</td>' for kind, cell in cells)}</tr>"
    yield "</table>"

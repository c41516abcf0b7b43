"""A report as data: headings, sentences, tables, pictures; and how it reads as Markdown. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Heading:
    """The title of a section."""

    text: str


@dataclass(frozen=True, slots=True)
class Sentence:
    """A paragraph; `loud` where it must not be overlooked."""

    text: str
    loud: bool = False


@dataclass(frozen=True, slots=True)
class Rows:
    """A table; `sides` is l or r for each column."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    sides: str


@dataclass(frozen=True, slots=True)
class Picture:
    """A plot as SVG text. Markdown leaves it out: it has no place for it in one file."""

    name: str
    svg: str


@dataclass(frozen=True, slots=True)
class Document:
    """One report."""

    title: str
    parts: Sequence[Heading | Sentence | Rows | Picture]


def markdown(document: Document) -> str:
    """The report as Markdown."""
    return "\n".join(_lines(document)).rstrip() + "\n"


def _lines(document: Document) -> Iterator[str]:
    yield f"# {document.title}"
    yield ""
    for part in document.parts:
        match part:
            case Heading(text):
                yield f"## {text}"
            case Sentence(text, loud):
                yield f"**{text}**" if loud else text
            case Rows(head, rows, sides):
                yield _row(head)
                yield f"|{'|'.join('---:' if side == 'r' else '---' for side in sides)}|"
                yield from (_row(row) for row in rows)
            case Picture():
                continue
        yield ""


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/').replace(chr(10), ' ') for cell in cells)} |"

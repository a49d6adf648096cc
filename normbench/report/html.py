"""report.html: one page without anything from elsewhere, figures in it, tables that sort."""

from __future__ import annotations

import re
from html import escape
from importlib.resources import files
from string import Template

from normbench.report.document import Document, Figure, Part
from normbench.report.tables import Table


def as_html(document: Document) -> str:
    """The page. Figures stand between our tables and the published ones of the first section."""
    page = Template((files("normbench.report") / "page.html").read_text(encoding="utf-8"))
    figures = [figure(drawn) for drawn in document.figures]
    notes = "".join(f"<p>{escape(note)}</p>" for note in document.experiment.notes)
    first, *others = document.parts
    body = "\n".join([part(first, figures), *(part(each, []) for each in others)])
    return page.substitute(title=escape(document.experiment.title), notes=notes, body=body)


def part(section: Part, figures: list[str]) -> str:
    heading = f"<h2>{escape(section.heading)}</h2>\n" if section.heading else ""
    facts = "".join(f"<p>{escape(fact)}</p>" for fact in section.facts)
    ours = [table(each) for each in section.shown if each.ours]
    theirs = [table(each) for each in section.tables if not each.ours]
    return "\n".join([f'{heading}<div class="facts">{facts}</div>', *ours, *figures, *theirs])


def table(made: Table) -> str:
    """A table whose heads sort it."""
    words = made.header[-1] == "source"
    heads = "".join(
        f"<th{' class=head' if words or i < made.heads else ''}><button>{escape(word)}</button></th>"
        for i, word in enumerate(made.header)
    )
    lines = [[cell(text, i < made.heads, words) for i, text in enumerate(row)] for row in made.rows]
    rows = "\n".join(f"<tr>{''.join(line)}</tr>" for line in lines)
    note = f'\n<p class="note">{escape(made.note)}</p>' if made.note else ""
    return (
        f'<h3>{escape(made.title)}</h3>\n<div class="scroll"><table>\n<thead><tr>{heads}</tr></thead>\n'
        f"<tbody>\n{rows}\n</tbody></table></div>{note}"
    )


def cell(text: str, head: bool, words: bool) -> str:
    kind = "head" if head else "words" if words else ""
    kind = kind or ("" if text[:1].isdigit() or text[:1] in "+−" else "none")
    return f"<td{f' class={kind}' if kind else ''}>{escape(text)}</td>"


def figure(drawn: Figure) -> str:
    """The SVG itself; its identifiers get the figure's name, since a page has each only once."""
    svg = drawn.files["svg"].decode()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r'(id="|href="#|url\(#)', rf"\g<1>{drawn.name}-", svg)
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    svg = svg.replace("<svg ", f'<svg role="img" aria-label="{escape(drawn.caption)}" ', 1)
    return f"<figure>\n{svg}<figcaption>{escape(drawn.caption)}</figcaption>\n</figure>"

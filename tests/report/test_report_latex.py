"""table.tex is LaTeX that compiles: read by a strict reader of the few commands that it may use. Where
pdflatex is installed, test_report_command.py compiles it too."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from normbench.report import main
from normbench.report.experiment import load
from normbench.report.formats import ESCAPES, latex_text

from .conftest import write_study

COMMANDS = {  # name -> how many arguments in braces
    "documentclass": 1, "usepackage": 1, "section*": 1, "subsection*": 1, "textbf": 1, "caption": 1,
    "includegraphics": 1, "centering": 0, "small": 0, "scriptsize": 0, "footnotesize": 0, "par": 0,
    "medskip": 0, "toprule": 0, "midrule": 0, "bottomrule": 0, "allowbreak": 0, "linewidth": 0,
    "textheight": 0, "textasciitilde": 0, "textasciicircum": 0, "textbackslash": 0, "dots": 0,
}  # fmt: skip
MATHS = {
    "cdot",
    "pm",
    "times",
    "surd",
    "sigma",
    "mu",
    "rho",
    "tau",
    "varepsilon",
    "geq",
    "leq",
    "uparrow",
}
TOKEN = re.compile(r"\\([a-zA-Z]+\*?|.)|([{}$&#%_^~])|([^\\{}$&#%_^~]+)", re.DOTALL)


def read(text: str) -> list[tuple[str, int]]:
    """Every tabular as (columns, rows); AssertionError for what LaTeX would not take."""
    depth, maths, environments, tables = 0, False, list[str](), list[tuple[str, int]]()
    columns, cells, rows = "", 0, 0
    parts = list(TOKEN.finditer(text))
    assert "".join(part[0] for part in parts) == text
    for part in parts:
        command, special, words = part.groups()
        after = text[part.end() :]
        if command in ("begin", "end"):
            name = re.match(r"\{(\w+)\}", after)[1]
            if command == "begin":
                environments.append(name)
            else:
                assert environments.pop() == name
            if name == "tabular" and command == "begin":
                columns = re.match(r"\{tabular\}\{((?:[lr]|p\{\d+cm\})+)\}", after)[1]
                columns, cells, rows = re.sub(r"p\{.*?\}", "p", columns), 1, 0
            elif name == "tabular":
                tables.append((columns, rows))
        elif command == "\\":
            assert environments[-1:] == ["tabular"]
            assert cells == len(columns)
            cells, rows = 1, rows + 1
        elif command and command[0].isalpha():
            assert command in (MATHS if maths else COMMANDS), command
            if not maths:
                rest = re.sub(r"^\[[^\]]*\]", "", after)
                assert rest.startswith("{") or not COMMANDS[command], command
        elif command:
            assert command in "&%$#_{}", command
        elif special == "$":
            maths = not maths
        elif special == "&":
            assert environments[-1:] == ["tabular"]
            cells += 1
        elif special in ("{", "}"):
            depth += 1 if special == "{" else -1
            assert depth >= 0
        else:
            assert special is None or (maths and special == "^"), f"{special!r} is not escaped"
            assert all(c.isascii() or c in "éèüöäß°" for c in words or ""), words
            assert not maths or not (words or "").strip(" +-<>0123456789"), words
    assert (depth, maths, environments) == (0, False, [])
    return tables


@pytest.mark.parametrize("name", ["quick", "frn_epsilon", "sn_table", "gn_table2"])
def test_every_command_is_known_and_every_row_is_full(tmp_path: Path, name: str) -> None:
    results = tmp_path / "results"
    write_study(results, load(name), seeds=2)
    main([f"experiment={name}", f"results={results}", "formats=tex,pdf"])
    text = (results / name / "table.tex").read_text(encoding="utf-8")
    tables = read(re.sub(r"\{figure_\w+\.pdf\}", "{}", text))  # a name of a file is not text
    assert len(tables) > 2
    assert all(rows > 1 for _, rows in tables)
    assert text.index(r"\begin{document}") < text.index(r"\toprule")
    for figure in re.findall(r"\{(figure_\w+\.pdf)\}", text):
        assert (results / name / figure).is_file()
    assert r"\textbf{" in text.partition(r"\midrule")[2]


@pytest.mark.parametrize(
    "bad", ["a_b", "5 % of", "{", r"\begin{center}", "a & b", r"\unknown", "τ"]
)
def test_the_reader_takes_no_wrong_latex(bad: str) -> None:
    with pytest.raises((AssertionError, TypeError)):
        read(bad)


def test_any_text_is_escaped() -> None:
    text = r"50 % of $x_1$ & {a}^2 ~ \b # ± × − – … √ σ μ ρ τ ε < > ≥ ≤ ⁻⁶ 漢"
    assert read(latex_text(text)) == []
    assert all(read(latex_text(chr(code))) == [] for code in ESCAPES)

"""What the documents name exists: files and folders, modules, names of code."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

import normbench

from .cases import each

PACKAGE = Path(normbench.__file__).parent
ROOT = PACKAGE.parent
# A changelog names what was.
DOCUMENTS = (
    "README.md",
    "CONTRIBUTING.md",
    "conf/README.md",
    "normbench/README.md",
)
ENDINGS = (".py", ".yaml", ".md", ".csv", ".toml", ".svg")

pytestmark = pytest.mark.skipif(
    not (ROOT / "CONTRIBUTING.md").is_file(), reason="not in a checkout"
)


def quoted(text: str) -> list[str]:
    """What stands in backticks, without the blocks of commands; NAME is a name of the reader's."""
    prose = re.sub(r"^(    [^\n]*|```.*?^```)$", "", text, flags=re.MULTILINE | re.DOTALL)
    return [word for word in re.findall(r"`([^`]+)`", prose) if "NAME" not in word]


def is_path(word: str) -> bool:
    plain = re.fullmatch(r"[\w./-]+", word) is not None
    return plain and (word.endswith(ENDINGS) or "/" in word)


def is_name(word: str) -> bool:
    """`pool`, `Cell.of`, `normbench.norms.plane`, `record()`."""
    return re.fullmatch(r"[A-Za-z_][\w.]*(\(\))?", word) is not None and not is_path(word)


@cache
def words_of_the_code() -> frozenset[str]:
    """Every word of the sources and of the configuration, and the names of their files."""
    files = [
        path
        for folder in ("normbench", "conf", "scripts", "tests", ".ci")
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and path.suffix in (".py", ".yaml", ".csv", "")
    ]
    text = " ".join(path.read_text(encoding="utf-8") for path in [*files, ROOT / "pyproject.toml"])
    names = {part for path in files for part in (*path.relative_to(ROOT).parts, path.stem)}
    return frozenset(re.findall(r"\w+", text)) | names


@each("name", DOCUMENTS)
def test_paths_exist(name: str) -> None:
    document = ROOT / name
    found = [word for word in quoted(document.read_text(encoding="utf-8")) if is_path(word)]
    missing = [
        word
        for word in found
        if not any((base / word).exists() for base in (ROOT, PACKAGE, document.parent))
    ]
    assert not missing, f"not there: {', '.join(missing)}"


@each("name", DOCUMENTS)
def test_names_exist(name: str) -> None:
    found = [word for word in quoted((ROOT / name).read_text(encoding="utf-8")) if is_name(word)]
    known = words_of_the_code()
    missing = [w for w in found if not set(w.removesuffix("()").split(".")) <= known]
    assert not missing, f"no code has {', '.join(missing)}"


@each("name", DOCUMENTS)
def test_links_lead_somewhere(name: str) -> None:
    document = ROOT / name
    targets = re.findall(r"\]\(([^)#]+)", document.read_text(encoding="utf-8"))
    files = [target for target in targets if "://" not in target]
    missing = [target for target in files if not (document.parent / target).exists()]
    assert not missing, f"not there: {', '.join(missing)}"


def test_the_checks_see_something() -> None:
    text = "`normbench/gone.py`, `Gone`\n\n    `in a block`\n\n`conf/norm/NAME.yaml` `pool`"
    assert quoted(text) == ["normbench/gone.py", "Gone", "pool"]
    assert [is_path(word) for word in quoted(text)] == [True, False, False]
    assert "pool" in words_of_the_code()
    assert is_name("normbench.norms.plane")
    assert not is_name("norm=frn")

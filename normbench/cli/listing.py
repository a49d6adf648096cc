"""`normbench list`: what there is, each with its paper, read from the first lines of conf/."""

from __future__ import annotations

from normbench import choices
from normbench.console import wide_console
from normbench.training.foreign import LIBRARIES
from normbench.words import Words, one_of

GROUPS = {
    "norms": "norm",
    "models": "model",
    "datasets": "dataset",
    "recipes": "recipe",
    "experiments": "experiment",
    "scales": "scale",
}
WORDS = Words("list", alone=one_of(GROUPS))


def main(arguments: list[str]) -> int:
    """Prints a table of each group asked for (none: of all)."""
    groups = WORDS.read(arguments).alone or list(GROUPS)
    for group in groups:
        show(group)
    return 0


def show(group: str) -> None:
    """One table: the choice as it is typed, what it is, where it is from."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, title_justify="left", header_style="bold")
    table.add_column(GROUPS[group] + "=", no_wrap=True)
    table.add_column("what it is")
    table.add_column("source")
    for name, (what, source) in entries(GROUPS[group]).items():
        table.add_row(name, what, source)
    wide_console(240).print(table, "")


def entries(group: str) -> dict[str, tuple[str, str]]:
    """name -> (what it is, source), from `# What it is. Source` at the head of each file.

    And the libraries whose networks are choices too.
    """
    found = {}
    for name in choices.names(group):
        file = choices.path_of(group, name)
        lines = file.read_text(encoding="utf-8").splitlines() if file else []
        heads = (line for line in lines if "@package" not in line)
        first = next((line for line in heads if line.startswith("#")), "").lstrip("# ")
        what, _, source = first.partition(". ")
        found[name] = what.rstrip("."), source
    if group == "model":
        found |= {f"{library}/NAME": said for library, said in LIBRARIES.items()}
    return found

"""`normbench fetch`: bring datasets, or check those that are here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from normbench.data.download import sources
from normbench.data.download.catalogue import DATASETS, find_entry
from normbench.errors import UserError
from normbench.words import Words

WORDS = Words(
    "fetch",
    keys={"root": Path, "source": str},
    flags=["--verify"],
    alone=lambda name: find_entry(name).name,
)


def main(argv: Sequence[str]) -> int:
    """Run `normbench fetch` with these arguments; the exit code.

    0: everything fetched, or everything found is as it should be. 1: a file is damaged, or a file
    of a dataset named, or of one that is partly here, is missing. Wrong words, among them unknown
    names, roots that are no folder and failed downloads are raised as UserError and FailedError.
    """
    given = WORDS.read(argv)  # all names are right before anything is brought
    verify, root = "--verify" in given.flags, given.values.get("root")
    if not given.alone and not verify:
        raise UserError(f"normbench fetch: name a dataset, of {', '.join(DATASETS)}")
    names = given.alone or list(DATASETS)
    if not verify:
        for name in names:
            sources.ensure(name, root=root, source=given.values.get("source"), replace=True)
    return max([_verify(name, root, bool(given.alone)) for name in names])


def _verify(name: str, root: Path | None, named: bool) -> int:
    """Print the state of each file of the dataset; the exit code."""
    entry = find_entry(name)
    folder = sources.locate(entry, root)
    states = {file.name: sources.state(folder, file) for file in entry.files}
    print(f"{name} in {folder}")
    for file, state in states.items():
        print(f"  {state:8}{file}")
    distinct = set(states.values())
    return int("damaged" in distinct or ("missing" in distinct and (named or "ok" in distinct)))

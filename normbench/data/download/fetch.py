"""`normbench fetch`: bring datasets, or check those that are here."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from normbench.data.download import sources
from normbench.data.download.catalogue import DATASETS, find_entry


def main(argv: Sequence[str]) -> int:
    """Run `normbench fetch` with these arguments; the exit code.

    0: everything fetched, or everything found is as it should be. 1: a file is damaged, or a file
    of a dataset named, or of one that is partly here, is missing. Unknown names, roots that are no
    folder and failed downloads are raised as UserError and FailedError.
    """
    parser = _parser()
    args = parser.parse_args(argv)
    if not args.names and not args.verify:
        parser.error(f"name a dataset: {', '.join(DATASETS)}")
    names = args.names or list(DATASETS)
    for name in names:
        find_entry(name)  # all names are right before anything is brought
    if not args.verify:
        for name in names:
            sources.ensure(name, root=args.root, source=args.source, replace=True)
    return max([_verify(name, args.root, bool(args.names)) for name in names])


def _parser() -> argparse.ArgumentParser:
    names = ", ".join(DATASETS)
    parser = argparse.ArgumentParser(prog="normbench fetch", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"datasets: {names}")
    parser.add_argument("--root", type=Path, help="folder that holds or will hold the files")
    parser.add_argument("--source", help="your own: URL or path of the archive or its folder")
    parser.add_argument("--verify", action="store_true", help="check what is here, bring nothing")
    return parser


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

"""Where a run comes from: the command, the machine, the packages, the user's own commit.

Read once, when the run begins, without torch; none of it decides the result.
"""

from __future__ import annotations

import functools
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import distributions
from pathlib import Path

COMMAND = "NORMBENCH_COMMAND"  # tells the processes of a sweep what was typed


def origin() -> dict[str, str | None]:
    """command: what was typed; host: its name, system and processor; folder: where one worked;
    commit: of the repository that this folder lies in, with + where files differ from it."""
    return {
        "command": os.environ.get(COMMAND) or typed(sys.argv),
        "host": f"{platform.node()}, {platform.system()} {platform.release()}, {processor()}",
        "folder": os.getcwd(),
        "commit": commit_of(Path.cwd()),
    }


def typed(argv: Sequence[str]) -> str:
    """The command line as it can be typed again: `normbench train norm=frn batch=2`."""
    names = [Path(word).name for word in argv[:1]]
    ours = names in (["normbench"], ["__main__.py"])
    return shlex.join([*(["normbench"] if ours else names), *argv[1:]])


def tell_children(arguments: Sequence[str]) -> None:
    """Has the processes that this one starts know which command they belong to."""
    os.environ[COMMAND] = shlex.join(["normbench", *arguments])


def words_of(command: str) -> list[str]:
    """The words of the `normbench` command that this process belongs to; none where it is another."""
    words = shlex.split(os.environ.get(COMMAND, ""))
    return words[2:] if words[:2] == ["normbench", command] else []


def processor() -> str:
    """The name of the processor; its architecture where the system does not say more."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


@functools.cache
def packages() -> dict[str, str]:
    """The version of every distribution that Python can import, by its name in small letters."""
    found: dict[str, str] = {}
    for one in distributions():
        name = (one.metadata["Name"] or "").lower().replace("_", "-")
        if name and one.version:
            found.setdefault(name, one.version)
    return dict(sorted(found.items()))


def commit_of(folder: Path, tracked: str | None = None) -> str | None:
    """The commit of the repository that `folder` lies in, with + where files differ from it; None
    outside of one, or where it does not know the file `tracked`."""
    git = ["git", "-C", str(folder)]
    ours = [["ls-files", "--error-unmatch", tracked]] if tracked else []
    said = ""
    try:
        for words in [*ours, ["describe", "--always", "--dirty=+", "--exclude=*"]]:
            done = subprocess.run(
                git + words, capture_output=True, text=True, timeout=10, check=True
            )
            said = done.stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
    return said or None

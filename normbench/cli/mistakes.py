"""A wrong setting in one line: what Hydra says of it, and what was likely meant."""

from __future__ import annotations

import re
import sys
from importlib.resources import files
from typing import Any

import yaml

from normbench.choices import path_of
from normbench.cli.help import choices
from normbench.cli.listing import GROUPS
from normbench.errors import did_you_mean, way_out


def setting_meant(word: str) -> str:
    """`norm=bn` for `bn`, `batch=…` for `batch`; nothing where no setting is likely."""
    for group in GROUPS.values():
        if word in choices(group):
            return f"{group}={word}"
    return f"{word}=…" if word in known_keys("") else ""


def readable(error: Exception) -> str:
    """What Hydra says about a wrong key or choice, in one line with the nearest right one."""
    said = str(error)
    if choice := re.search(r"Could not find '([^/']+)/([^']+)'", said):
        group, word = choice.groups()
        known = choices(group)
        hint = did_you_mean(word, known)
        return f"there is no {group}={word}{hint or ''} (there are {', '.join(known)})"
    wrong = re.search(
        r"Could not (override|append to config\. An item is already at) '([^']+)'", said
    )
    if wrong:
        word = wrong.group(2)
        if wrong.group(1) != "override":
            return f"+{word}: {word} is there already; leave out the +"
        known = known_keys(word)
        return f"there is no setting {word!r}{way_out(word, known)}"
    if said.startswith("Missing mandatory value"):
        key = getattr(error, "full_key", None) or said.split()[-1]
        return f"{key} has no value; give {key}=…"
    return said


def known_keys(word: str) -> list[str]:
    """The keys that stand where `word` was looked for: those of its group, or those on top."""
    top: dict[str, Any] = yaml.safe_load(
        (files("normbench.conf") / "train.yaml").read_text("utf-8")
    )
    groups = {
        k: v for entry in top["defaults"] if isinstance(entry, dict) for k, v in entry.items()
    }
    group, _, _ = word.rpartition(".")
    if not group:
        own = [name for name in groups if not name.startswith("override")]
        return own + [key for key in top if key not in ("defaults", "hydra")]
    if isinstance(top.get(group), dict):
        return [f"{group}.{key}" for key in top[group]]
    given = [word.split("=", 1)[1] for word in sys.argv if word.startswith(f"{group}=")]
    chosen = path_of(group, str([groups.get(group), *given][-1]))
    if chosen is None:
        return known_keys("")
    return [f"{group}.{key}" for key in yaml.safe_load(chosen.read_text(encoding="utf-8"))]

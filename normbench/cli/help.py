"""What the command line says in words: help from the files of conf/, and Hydra's errors in one line."""

from __future__ import annotations

import re
import sys
from importlib.resources import files
from typing import Any

import yaml

from normbench.errors import did_you_mean
from normbench.training.foreign import LIBRARIES

HELP = """\
normbench: how normalization layers behave when each worker sees only a few images

  normbench train norm=frn batch=2            trains one network and writes its record
  normbench train -m norm=bn,gn batch=2,8     trains a grid, cell by cell
  normbench sweep experiment=gn_table2        trains a table of a paper; again: finishes it
  normbench report experiment=gn_table2       its table and figures, beside the published numbers
  normbench evaluate results/runs/single      finished runs again, by other statistics of batch norms
  normbench bench layers                      speed and memory of every norm, against torch's layers
  normbench list                              norms, models, datasets, experiments, with their papers
  normbench fetch cifar10                     downloads a dataset; fetch --verify checks what is there

  normbench COMMAND --help                    says more of each
"""


def complain(error: Exception | str) -> None:
    """One line on stderr."""
    print("normbench:", " ".join(str(error).split()), file=sys.stderr)


def train_help() -> str:
    """How to use `train`, with every setting, its default and its meaning, from its own file."""
    groups = "\n".join(
        f"  {g:10s}{', '.join(choices(g))}" for g in ("norm", "model", "dataset", "recipe")
    )
    return f"""\
normbench train [-m] [key=value ...]   trains a network and writes results/runs/.../record.json

  normbench train norm=frn batch=2                 one run
  normbench train -m norm=bn,gn,frn batch=2,8,32   every combination, each skipped if it is done
  normbench train norm=gn --cfg job                shows the settings and trains nothing
The same command again goes on with an unfinished run, and shows the result of a finished one.

Choices (normbench list says what each is; their own options are norm.KEY=..., model.KEY=...)
{groups}

Settings, with their defaults
{settings_text()}"""


def sweep_help() -> str:
    """How to use `sweep`."""
    return f"""\
normbench sweep experiment=NAME [scale=NAME] [key=value ...] [--dry-run]

  normbench sweep experiment=quick                 every cell that is not done, then the report
  normbench sweep experiment=quick seeds=1 jobs=2  one seed; two cells at a time
  normbench sweep experiment=gn_table2 batch=2,4   only a part of an axis
  normbench sweep norm=bn,gn batch=2,8 study=mine  a grid of one's own
  normbench sweep experiment=quick --dry-run       what is done, unfinished, failed, invalid, new
A cell that fails does not stop the others; the same command again finishes what is left.

  experiment  {", ".join(choices("experiment"))}
  scale       {", ".join(choices("scale"))}  (where it runs: network, dataset, epochs)
Every other setting is one of normbench train --help.
"""


def settings_text() -> str:
    """conf/train.yaml from its first setting to its last, comments included."""
    text = (files("normbench.conf") / "train.yaml").read_text(encoding="utf-8")
    return text.split("\n\n", 1)[1].split("\nhydra:", 1)[0]


def choices(group: str) -> list[str]:
    """The choices of a group: the files in its folder, and the libraries with networks."""
    folder = files("normbench.conf") / group
    names = [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
    own = sorted(name.removesuffix(".yaml") for name in names if name.endswith(".yaml"))
    return own + [f"{library}/NAME" for library in LIBRARIES if group == "model"]


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
        hint = did_you_mean(word, known) or f"; there are {', '.join(known)}"
        return f"there is no setting {word!r}{hint}"
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
    chosen = files("normbench.conf") / group / f"{[groups.get(group), *given][-1]}.yaml"
    if not chosen.is_file():
        return known_keys("")
    return [f"{group}.{key}" for key in yaml.safe_load(chosen.read_text(encoding="utf-8"))]

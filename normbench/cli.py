"""The door: `normbench COMMAND ...`. The only module that knows Hydra; settings leave it as data."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from normbench.errors import FailedError, UserError, did_you_mean

if TYPE_CHECKING:
    from omegaconf import DictConfig

HELP = """\
normbench: how normalization layers behave when each worker sees only a few images

  normbench train [key=value ...]       trains one network and writes its record
  normbench train -m norm=bn,gn batch=2,8   trains a grid, cell by cell
  normbench list [norms|models|datasets]    what there is, each with its paper
  normbench fetch cifar10|cifar100      downloads a dataset; fetch --verify checks what is there

  normbench COMMAND --help              says more of each
"""


def main(argv: list[str] | None = None) -> int:
    """Runs a command; the exit code: 0, 1 for a failure, 2 for a mistake of the user."""
    arguments = sys.argv[1:] if argv is None else argv
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(HELP, end="")
        return 0
    name, *rest = arguments
    if name == "--version":
        from normbench import __version__

        print(f"normbench {__version__}")
        return 0
    try:
        if name not in COMMANDS:
            hint = did_you_mean(name, COMMANDS) or f"; there are {', '.join(COMMANDS)}"
            raise UserError(f"there is no command {name!r}{hint}")
        return COMMANDS[name](rest)
    except UserError as error:
        complain(error)
        return 2
    except FailedError as error:
        complain(error)
        return 1
    except KeyboardInterrupt:
        print("normbench: interrupted; the same command goes on from the last epoch", file=sys.stderr)
        return 130


def complain(error: Exception | str) -> None:
    """One line on stderr."""
    print("normbench:", " ".join(str(error).split()), file=sys.stderr)


def train(arguments: list[str]) -> int:
    """`normbench train`: one run, or with -m a grid of them."""
    if {"-h", "--help"} & set(arguments):
        print(train_help(), end="")
        return 0
    failures: list[tuple[str, Exception]] = []

    def job(config: DictConfig) -> None:  # keeps its error, which Hydra would print in its own way
        from hydra.core.hydra_config import HydraConfig

        try:
            train_cell(config)
        except Exception as error:
            failures.append((" ".join(HydraConfig.get().overrides.task), error))

    with_hydra(job, arguments)
    if len(failures) == 1 and not {"-m", "--multirun"} & set(arguments):
        raise failures[0][1]
    for overrides, error in failures:
        complain(f"failed: normbench train {overrides}: {error}")
    return 1 if failures else 0


def train_cell(config: DictConfig) -> None:
    """One composed configuration, trained."""
    settings = settings_of(config)
    from normbench.display import Display
    from normbench.train import run

    display = Display()
    try:
        run(settings, display)
    finally:
        display.close()


def settings_of(config: DictConfig) -> Any:
    """The checked settings; here the last DictConfig ends."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    from normbench.config import parse

    try:
        plain = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise UserError(readable(error)) from None
    assert isinstance(plain, dict)
    return parse({str(key): value for key, value in plain.items() if key != "hydra"})


def with_hydra(job: Callable[[DictConfig], None], arguments: list[str]) -> None:
    """Hydra's own entry, with its errors as ours: one line and no traceback."""
    if sys.version_info >= (3, 14):
        refuse_old_hydra()
    import hydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    os.environ["HYDRA_FULL_ERROR"] = "1"  # exceptions come out as they are
    sys.argv = ["normbench train", *arguments]
    try:
        hydra.main(version_base="1.3", config_path="pkg://normbench.conf", config_name="train")(job)()
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(readable(error)) from None


def refuse_old_hydra() -> None:
    """Hydra 1.3 cannot build its parser on Python 3.14."""
    from importlib.metadata import version

    if version("hydra-core") < "1.4":
        raise FailedError(
            f"hydra-core {version('hydra-core')} does not run on Python 3.14;"
            " pip install 'hydra-core>=1.4.0rc3' or use Python 3.13"
        )


def readable(error: Exception) -> str:
    """What Hydra says about a wrong key or choice, in one line with the nearest right one."""
    text = str(error)
    if choice := re.search(r"Could not find '([^/']+)/([^']+)'", text):
        group, word = choice.groups()
        known = choices(group)
        hint = did_you_mean(word, known)
        return f"there is no {group}={word}{hint or ''} (there are {', '.join(known)})"
    if wrong := re.search(
        r"Could not (?:override|append to config\. An item is already at) '([^']+)'", text
    ):
        word = wrong.group(1)
        if "already at" in wrong.group(0):
            return f"+{word}: {word} is there already; leave out the +"
        known = known_keys(word)
        hint = did_you_mean(word, known) or f"; there are {', '.join(known)}"
        return f"there is no setting {word!r}{hint}"
    if text.startswith("Missing mandatory value"):
        key = getattr(error, "full_key", None) or text.split()[-1]
        return f"{key} has no value; give {key}=…"
    return text


def known_keys(word: str) -> list[str]:
    """The keys that stand where `word` was looked for: those of its group, or those on top."""
    import yaml

    top = yaml.safe_load((files("normbench.conf") / "train.yaml").read_text(encoding="utf-8"))
    group, _, _ = word.rpartition(".")
    if not group:
        groups = [name for entry in top["defaults"] if isinstance(entry, dict) for name in entry]
        return groups + [key for key in top if key not in ("defaults", "hydra")]
    if isinstance(top.get(group), dict):
        return [f"{group}.{key}" for key in top[group]]
    default = next(entry[group] for entry in top["defaults"] if group in entry)
    given = [word.split("=", 1)[1] for word in sys.argv if word.startswith(f"{group}=")]
    options = (files("normbench.conf") / group / f"{(given or [default])[-1]}.yaml").read_text("utf-8")
    return [f"{group}.{key}" for key in yaml.safe_load(options)]


def choices(group: str) -> list[str]:
    """The choices of a group: the files in its folder."""
    folder = files("normbench.conf") / group
    names = [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
    return sorted(name.removesuffix(".yaml") for name in names if name.endswith(".yaml"))


def train_help() -> str:
    """How to use `train`, with every setting, its default and its meaning, from its own file."""
    text = (files("normbench.conf") / "train.yaml").read_text(encoding="utf-8")
    body = text.split("\n\n", 1)[1].split("\nhydra:", 1)[0]
    lines = "\n".join(f"  {name:10s}{', '.join(choices(name))}" for name in ("norm", "model", "dataset"))
    return f"""\
normbench train [-m] [key=value ...]   trains a network and writes results/runs/.../record.json

  normbench train norm=frn batch=2                 one run
  normbench train -m norm=bn,gn,frn batch=2,8,32   every combination, each skipped if it is done
  normbench train norm=gn --cfg job                shows the settings and trains nothing
The same command again goes on with an unfinished run, and shows the result of a finished one.

Choices (normbench list says what each is; their own options are norm.KEY=..., model.KEY=...)
{lines}

Settings, with their defaults
{body}"""


def list_(arguments: list[str]) -> int:
    from normbench.listing import main as show

    return show(arguments)


def fetch(arguments: list[str]) -> int:
    from normbench.data.fetch import main as get

    return get(arguments)


COMMANDS: dict[str, Callable[[list[str]], int]] = {"train": train, "list": list_, "fetch": fetch}

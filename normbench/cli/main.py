"""The door: `normbench COMMAND ...`. It and its launcher alone know Hydra; settings leave as data."""

from __future__ import annotations

import glob
import os
import re
import sys
import tempfile
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from normbench.cli.help import HELP, readable, sweep_help, train_help
from normbench.errors import FailedError, UserError, did_you_mean

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from normbench.settings.cell import Cell
    from normbench.study.jobs import Job


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
        complain("interrupted; the same command goes on from the last epoch")
        return 130


def complain(error: Exception | str) -> None:
    """One line on stderr."""
    print("normbench:", " ".join(str(error).split()), file=sys.stderr)


FLAGS = (
    *("-m", "--multirun", "-c", "--cfg", "--resolve", "-p", "--package", "-i", "--info"),
    *("-cp", "--config-path", "-cn", "--config-name", "-cd", "--config-dir", "--hydra-help"),
)  # of Hydra


def train(arguments: list[str]) -> int:
    """`normbench train`: one run, or with -m a grid of them."""
    if {"-h", "--help"} & set(arguments):
        print(train_help(), end="")
        return 0
    for word in arguments:
        if word.startswith("-") and word.split("=")[0] not in FLAGS:
            hint = did_you_mean(word, FLAGS) or "; settings are key=value"
            raise UserError(f"normbench train has no {word}{hint}")
    errors: list[Exception] = []

    def one(config: DictConfig) -> None:  # keeps its error, which Hydra would print in its own way
        try:
            train_one(cell(plain(config)))
        except Exception as error:
            errors.append(error)

    code = with_hydra(one, arguments)
    if errors:
        raise errors[0]
    return code


def train_one(cell: Cell) -> None:
    from normbench.record.display import Display
    from normbench.training.run import run

    display = Display()
    try:
        run(cell, display)
    finally:
        display.close()


def sweep(arguments: list[str]) -> int:
    """`normbench sweep`: the cells of an experiment, or of a study of one's own, then its report."""
    from normbench.study.grid import grid, is_list, overrides_of, text

    if {"-h", "--help"} & set(arguments):
        print(sweep_help(), end="")
        return 0
    dry = "--dry-run" in arguments
    words = [word for word in arguments if word != "--dry-run"]
    for word in words:
        if word.startswith("-") or "=" not in word:
            raise UserError(f"{word!r} is not key=value; see normbench sweep --help")
    if any(w.startswith("experiment=") for w in words):
        words += [] if any(w.startswith("scale=") for w in words) else ["scale=embedded"]
    given = dict(word.split("=", 1) for word in words)
    study = compose([f"{k}={v}" for k, v in given.items() if not is_list(v)])
    axes, points = grid(study, given)
    keys = {*axes, *(key for point in points for key in point)}
    fixed = tuple(f"{k}={v}" for k, v in given.items() if k not in keys)
    jobs = [job(fixed + some) for some in overrides_of(axes, points)]
    code = run_all(jobs, study, dry)
    folder, out = (f"{study['results']}/{part}{study['study']}" for part in ("runs/", ""))
    if dry or not glob.glob(f"{folder}/**/record.json", recursive=True):
        return code
    if "experiment" in given:
        asked = [f"axes.{key}={text(axes[key])}" for key in axes if key in study["axes"]]
        report([f"experiment={given['experiment']}", folder, f"out={out}", *asked])
    elif "study" in given:
        report([folder, f"out={out}"])
    return code


def cell(data: dict[str, Any]) -> Cell:
    """The cell of a composed configuration: the one way from words to what is trained."""
    from normbench.settings.cell import cell_of
    from normbench.settings.parse import parse

    return cell_of(parse(data))


def job(overrides: tuple[str, ...]) -> Job:
    """A job from its overrides; a mistake in them is kept as the job's error."""
    from normbench.study.jobs import Job

    try:
        return Job(overrides, cell(compose(overrides)))
    except UserError as error:
        return Job(overrides, None, str(error))


def run_all(jobs: Sequence[Job], study: dict[str, Any], dry: bool = False) -> int:
    """Runs what is to be run, says what failed and how to repeat it; the exit code."""
    from rich.console import Console

    from normbench.study.jobs import checked, distinct
    from normbench.study.plan import Slots, fetch_data, plan
    from normbench.study.pool import gpus, run_cells

    console = Console(highlight=False, soft_wrap=True)
    jobs = checked(distinct(jobs))
    slots = Slots.of(study["jobs"], study["jobs_per_gpu"], gpus(study["device"]))
    if dry:
        for line in plan(jobs, len(slots.devices)):
            console.print(line, markup=False)
        return 0
    fetch_data(jobs)
    ends = run_cells(jobs, slots, console)
    bad = [*ends["invalid"], *ends["failed"]]
    for one in bad:
        complain(f"{'failed' if one.cell else 'invalid'}: {one.command}: {one.error}")
    return 1 if bad else 0


def compose(overrides: Sequence[str]) -> dict[str, Any]:
    """The configuration as plain data, from overrides alone."""
    import hydra
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    offer_foreign(overrides)
    try:
        if not GlobalHydra.instance().is_initialized():
            hydra.initialize_config_module("normbench.conf", **version_base())
        return plain(hydra.compose("train", overrides=list(overrides)))
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(readable(error)) from None


def offer_foreign(words: Sequence[str]) -> None:
    """Makes a choice, which in conf/ is a file, of each LIBRARY/NAME that a word gives to model."""
    models = [word.partition("=")[2] for word in words if word.startswith("model=")]
    asked = re.findall(r"\w+/[\w.]+", ",".join(models))
    if asked:  # torch is not read for less
        from hydra.core.config_store import ConfigStore

        from normbench.training.foreign import is_foreign

        for value in asked:
            if is_foreign(value):
                folder, _, name = f"model/{value}".rpartition("/")
                node = {"name": value, "label": value.replace("/", "_")}
                ConfigStore.instance().store(name, node, group=folder, package="model")


def plain(config: DictConfig) -> dict[str, Any]:
    """Plain data; here the last DictConfig ends."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        ours = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
        data = OmegaConf.to_container(ours, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise UserError(readable(error)) from None
    assert isinstance(data, dict)
    return {str(key): value for key, value in data.items()}


def with_hydra(job: Callable[[DictConfig], None], arguments: list[str]) -> int:
    """Hydra's own entry, with its errors as ours; the exit code of the multirun, if it was one."""
    refuse_old_hydra()
    offer_foreign(arguments)
    import hydra
    from hydra.core.plugins import Plugins
    from hydra.errors import HydraException
    from hydra_plugins.normbench import LocalLauncher
    from omegaconf.errors import OmegaConfBaseException

    Plugins.instance().register(LocalLauncher)  # found by itself, but not in an editable install
    LocalLauncher.exit_codes.clear()
    os.environ["HYDRA_FULL_ERROR"] = "1"  # exceptions come out as they are
    with tempfile.TemporaryDirectory() as folder:  # for the multirun.yaml that nobody asked for
        sys.argv = ["normbench train", *arguments]
        if {"-m", "--multirun"} & set(arguments):
            sys.argv.append(f"hydra.sweep.dir={folder}")
        try:
            entry = hydra.main(
                config_path="pkg://normbench.conf", config_name="train", **version_base()
            )
            entry(job)()
        except (HydraException, OmegaConfBaseException) as error:
            raise UserError(readable(error)) from None
    return max(LocalLauncher.exit_codes, default=0)


def version_base() -> dict[str, str]:
    """What Hydra before 1.4 wants to be told, and later ones do not."""
    from importlib.metadata import version

    return {"version_base": "1.3"} if version("hydra-core") < "1.4" else {}


def refuse_old_hydra() -> None:
    """Hydra 1.3 cannot build its parser on Python 3.14."""
    from importlib.metadata import version

    if sys.version_info >= (3, 14) and version("hydra-core") < "1.4":
        raise FailedError(
            f"hydra-core {version('hydra-core')} does not run on Python 3.14;"
            " install hydra-core 1.4 or newer, or use Python 3.13"
        )


def report(arguments: list[str]) -> int:
    from normbench.report import main as show

    return show(arguments)


def evaluate(arguments: list[str]) -> int:
    from normbench.cli.evaluate import main as again

    return again(arguments, compose)


def bench(arguments: list[str]) -> int:
    from normbench.bench.command import run

    return run(arguments, lambda words: cell(compose(words)))


def list_(arguments: list[str]) -> int:
    from normbench.cli.listing import main as show

    return show(arguments)


def fetch(arguments: list[str]) -> int:
    from normbench.data.download.fetch import main as get

    return get(arguments)


COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "train": train,
    "sweep": sweep,
    "report": report,
    "evaluate": evaluate,
    "bench": bench,
    "list": list_,
    "fetch": fetch,
}

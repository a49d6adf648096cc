"""`normbench COMMAND ...`: the commands, and the exit code of each."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import nullcontext
from typing import TYPE_CHECKING

from normbench import choices, signals
from normbench.cli.help import HELP, complain, help_of
from normbench.cli.mistakes import setting_meant
from normbench.errors import FailedError, UserError, way_out
from normbench.record.provenance import tell_children
from normbench.words import Words

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from normbench.settings.cell import Cell


def main(argv: list[str] | None = None) -> int:
    """Runs a command; the exit code: 0, 1 for a failure, 2 for a mistake of the user, 75 where a
    signal has stopped it and the same command goes on."""
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
            raise UserError(f"there is no command {name!r}{way_out(name, COMMANDS)}")
        tell_children(arguments)
        rest = choices.take(rest)
        if {"-h", "--help"} & set(rest):
            print(help_of(name, rest), end="")
            return 0
        with signals.heard() if name in LONG else nullcontext():
            return COMMANDS[name](rest)
    except UserError as error:
        complain(error)
        return 2
    except FailedError as error:
        complain(error)
        return 1
    except signals.Stopped as signal:
        complain(f"stopped by {signal}; the same command goes on where it was")
        return signals.TO_BE_CONTINUED
    except KeyboardInterrupt:
        complain("interrupted")
        return 130


def train(arguments: list[str]) -> int:
    """`normbench train`: one run, or with -m a grid of them."""
    from normbench.cli.hydra import FLAGS, VALUED, plain, run_app
    from normbench.cli.jobs import cell

    Words("train", flags=FLAGS, valued=VALUED, settings=True, meant=setting_meant).read(arguments)
    errors: list[Exception] = []

    def one(config: DictConfig) -> None:  # keeps its error, which Hydra would print in its own way
        try:
            train_one(cell(plain(config)))
        except Exception as error:
            errors.append(error)

    code = run_app(one, arguments)
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
    from normbench.cli.sweep import sweep as run

    return run(arguments)


def report(arguments: list[str]) -> int:
    from normbench.report import main as show

    return show(arguments)


def evaluate(arguments: list[str]) -> int:
    from normbench.cli.evaluate import main as again
    from normbench.cli.hydra import compose

    return again(arguments, compose)


def bench(arguments: list[str]) -> int:
    from normbench.bench.command import run
    from normbench.cli.hydra import compose
    from normbench.cli.jobs import cell

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
LONG = ("train", "sweep")  # a signal makes them save where they are

"""`normbench COMMAND ...`: the commands, and the exit code of each."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING

from normbench import choices, signals
from normbench.cli.help import HELP, OWN_FILES, complain, help_of
from normbench.cli.mistakes import MULTIRUN, refuse_of_a_sweep, setting_meant
from normbench.errors import FailedError, UserError, in_words, is_out_of_memory, way_out
from normbench.machine import rank, ranks
from normbench.record.provenance import tell_children
from normbench.words import Words

if TYPE_CHECKING:
    from normbench.settings.cell import Cell

TRACEBACK = "--traceback"  # after any command: where an error came from, before its line


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
        tell_children(arguments)
        return command(name, [word for word in rest if word != TRACEBACK])
    except signals.Stopped as signal:
        complain(f"stopped by {signal}; the same command goes on where it was")
        return signals.TO_BE_CONTINUED
    except KeyboardInterrupt:
        complain("interrupted")
        return 130
    except Exception as error:
        if TRACEBACK in rest:
            traceback.print_exception(error)
        foreseen = isinstance(error, UserError | FailedError) or is_out_of_memory(error)
        complain(in_words(error) + ("" if foreseen else f"; {TRACEBACK} shows the whole way there"))
        return 2 if isinstance(error, UserError) else 1


def command(name: str, words: list[str]) -> int:
    """Runs the command `name` or prints its help; the exit code."""
    if name not in COMMANDS:
        raise UserError(f"there is no command {name!r}{way_out(name, COMMANDS)}")
    words = choices.take(words)
    if {"-h", "--help"} & set(words):
        print(help_of(name, words), end="")
        return 0
    check_torchrun(name, words)
    with signals.heard() if name in LONG else nullcontext():
        return COMMANDS[name](words)


def check_torchrun(name: str, words: list[str]) -> None:
    """UserError where torchrun has started what is no single run; the other ranks leave quietly."""
    if ranks() > 1 and (name != "train" or MULTIRUN & set(words)):
        if rank():
            sys.exit(0)
        raise UserError(
            f"torchrun starts a single normbench train; say normbench {name} without it, and for"
            " several processes a cell devices_per_cell=2"
        )


def train(arguments: list[str]) -> int:
    """`normbench train`: one run, or with -m a grid of them."""
    if rank():
        from normbench.training.follow import follow

        return follow()
    from normbench.cli.hydra import FLAGS, VALUED, compose, plain, run_app
    from normbench.cli.jobs import cell

    words = Words("train", flags=FLAGS, valued=VALUED, settings=True, meant=setting_meant)
    given = words.read(arguments)
    many = bool(MULTIRUN & given.flags)
    for word in given.settings:
        refuse_of_a_sweep(word, many)
    if given.flags:
        return run_app(lambda config: train_one(cell(plain(config))), arguments)
    train_one(cell(compose(given.settings)))
    return 0


def train_one(cell: Cell) -> None:
    """Trains a cell. FailedError, with the first layer that was not finite, where it diverged."""
    from normbench.record.display import Display
    from normbench.training.diverged import first_fault
    from normbench.training.run import done, run

    display, there = Display(), done(cell.folder) is not None
    try:
        record = run(cell, display)
        if record.status == "diverged":
            if not there:
                display.note(
                    "it diverged; looking for the first layer, which takes an epoch at most"
                )
            where = "" if there else f" in {first_fault(cell)}"
            raise FailedError(f"{cell.folder.name} diverged{where}; its record is kept as a result")
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


def own_file(name: str, arguments: list[str]) -> int:
    """A command with a file of its own, imported when it is asked for."""
    code: int = import_module(f"normbench.cli.{name}").main(arguments)
    return code


COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "train": train,
    "sweep": sweep,
    "report": report,
    "evaluate": evaluate,
    "bench": bench,
    "list": list_,
    "fetch": fetch,
    **{name: partial(own_file, name) for name in OWN_FILES},
}
LONG = ("train", "sweep")  # a signal makes them save where they are

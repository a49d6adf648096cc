"""Many cases in one test: `each` loops where a case is a line of a table, not a test of its own."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any

Test = Callable[..., None]


def each(name: str, values: Iterable[Any]) -> Callable[[Test], Test]:
    """Calls a test once for each of the values, which it takes as the argument `name`.

    All values are tried; what fails is one AssertionError that names them. Decorators stack, and
    fixtures are those of the one test: what a case changes there, the next one sees.
    """
    cases = list(values)
    assert cases, f"{name}: there is nothing to test"

    def decorate(test: Test) -> Test:
        @functools.wraps(test)
        def all_cases(**given: Any) -> None:
            failed: dict[str, Exception] = {}
            for value in cases:
                try:
                    test(**given, **{name: value})
                except Exception as error:
                    failed[str(value)] = error
            if failed:
                words = "; ".join(f"{name}={case}: {said(e)}" for case, e in failed.items())
                raise AssertionError(words) from next(iter(failed.values()))

        signature = inspect.signature(test)
        others = [p for key, p in signature.parameters.items() if key != name]
        assert len(others) < len(signature.parameters), f"{test.__name__} takes no {name}"
        vars(all_cases)["__signature__"] = signature.replace(parameters=others)
        return all_cases

    return decorate


def said(error: Exception) -> str:
    """The first line of an error, with its kind where that is not a failed assertion."""
    line = next(iter(str(error).splitlines()), "")
    return line if isinstance(error, AssertionError) else f"{type(error).__name__}: {line}"

"""Whatever is typed, the readers of words and settings end in a value or in a UserError of one line."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from normbench.cli.hydra import check_words
from normbench.cli.mistakes import setting_meant
from normbench.cli.sweep import WORDS, asked_for
from normbench.errors import UserError
from normbench.report.arguments import understood
from normbench.settings.parse import parse, parse_sweep
from normbench.settings.schema import Settings, Sweep
from normbench.study.grid import grid, overrides_of

QUICK = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
TEXT = st.one_of(
    st.text("abno.=[]{}'\"\\,$():<>+~@/ -019eé\n\t\0", max_size=12),
    st.text(max_size=8),
    st.sampled_from(["nan", "1e999", "9" * 5000, "[" * 200, "${batch}", "!!python/none x"]),
)
KEYS = st.sampled_from(["norm", "batch", "+norm.eps", "~lr", "axes", "seeds", "where.norm", "x"])
WORD = st.one_of(TEXT, st.builds(lambda key, text: f"{key}={text}", KEYS, TEXT))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)


def result_or_line(call: Callable[[], Any]) -> Any:
    """What the call returns; None where it is a UserError of one line."""
    try:
        return call()
    except UserError:
        return None


@QUICK
@given(words=st.lists(WORD, max_size=3))
def test_words(words: list[str]) -> None:
    """Of a command line, by every reader; what is suggested for them too."""
    result_or_line(lambda: check_words(words))
    given = result_or_line(lambda: WORDS.read(words))
    if given is not None:
        result_or_line(lambda: asked_for(given.settings))
    result_or_line(lambda: understood(["experiment=quick", *words]))
    for word in words:
        assert isinstance(setting_meant(word), str)


@QUICK
@given(key=st.sampled_from(sorted(Settings.__dataclass_fields__)), value=VALUES)
def test_settings(composed: Callable[..., dict[str, Any]], key: str, value: Any) -> None:
    found = result_or_line(lambda: parse(composed() | {key: value}))
    assert found is None or isinstance(found, Settings)


@QUICK
@given(key=st.sampled_from(sorted(Sweep.__dataclass_fields__)), value=VALUES)
def test_a_sweep(composed: Callable[..., dict[str, Any]], key: str, value: Any) -> None:
    data = composed() | {key: value}
    if result_or_line(lambda: parse_sweep(data)) is not None:
        cells = result_or_line(lambda: overrides_of(*grid(data, {"norm": "bn,gn", "seed": "0"})))
        assert cells is None or all(len(shlex.join(words)) for words in cells)

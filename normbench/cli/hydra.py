"""Hydra, and what is known of it: words of the command line in, plain data out."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from normbench.cli.mistakes import readable
from normbench.errors import FailedError, UserError

if TYPE_CHECKING:
    from omegaconf import DictConfig

VALUED = (
    *("-c", "--cfg", "-p", "--package", "-i", "--info", "-cp", "--config-path"),
    *("-cn", "--config-name", "-cd", "--config-dir"),
)  # flags of Hydra with a value, which `normbench train` hands on
FLAGS = ("-m", "--multirun", "--resolve", "--hydra-help", *VALUED)


def compose(overrides: Sequence[str]) -> dict[str, Any]:
    """The configuration of these words as plain data. UserError for what it does not have."""
    return plain(configuration(overrides))


def configuration(overrides: Sequence[str]) -> DictConfig:
    """The configuration of these words, not resolved. UserError for what it does not have."""
    import hydra
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    offer_foreign(overrides)
    offer_own(overrides)
    register()
    try:
        if not GlobalHydra.instance().is_initialized():
            hydra.initialize_config_module("normbench.conf", **version_base())
        return hydra.compose("train", overrides=list(overrides))
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(readable(error)) from None


def plain(config: DictConfig) -> dict[str, Any]:
    """Plain data; here the last DictConfig ends. UserError for a value that is missing."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        ours = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
        data = OmegaConf.to_container(ours, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise UserError(readable(error)) from None
    assert isinstance(data, dict)
    return {str(key): value for key, value in data.items()}


def references(config: DictConfig) -> set[str]:
    """The last names of the keys that interpolations such as `${gn_groups}` refer to."""
    from omegaconf import OmegaConf

    ours = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
    found = re.findall(r"\$\{([^{}]*)\}", str(OmegaConf.to_container(ours, resolve=False)))
    return {name.rpartition(".")[2] for name in found}


@lru_cache(maxsize=4096)
def value(word: str) -> Any:
    """The value of a word key=value, as Hydra reads it. UserError where it cannot."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        return OverridesParser.create().parse_override(word).value()
    except HydraException as error:
        raise UserError(readable(error)) from None


def offer_own(words: Iterable[str]) -> None:
    """Makes a choice of each module.Class that a word gives to norm: the user's own norm, with the
    options that its class has, at their defaults. UserError where it cannot be imported."""
    norms = [word.partition("=")[2] for word in words if word.startswith("norm=")]
    asked = re.findall(r"[A-Za-z_]\w*(?:\.\w+)+", ",".join(norms))
    if asked:  # torch is not read for less
        from hydra.core.config_store import ConfigStore

        from normbench.norms import norm_class, options_of

        for target in asked:
            own = options_of(norm_class("custom", target)).items()
            options = {key: None if p.default is p.empty else p.default for key, p in own}
            node = {"name": "custom", "target": target, **options}
            ConfigStore.instance().store(target, node, group="norm", package="norm")


def offer_foreign(words: Iterable[str]) -> None:
    """Makes a choice, which in conf/ is a file, of each LIBRARY/NAME that a word gives to model."""
    models = [word.partition("=")[2] for word in words if word.startswith("model=")]
    asked = re.findall(r"\w+/[\w.]+", ",".join(models))
    if asked:  # torch is not read for less
        from hydra.core.config_store import ConfigStore

        from normbench.training.foreign import is_foreign

        for name in filter(is_foreign, asked):
            folder, _, last = f"model/{name}".rpartition("/")
            node = {"name": name, "label": name.replace("/", "_")}
            ConfigStore.instance().store(last, node, group=folder, package="model")


def run_app(job: Callable[[DictConfig], None], arguments: list[str]) -> int:
    """Hydra's own entry, with its errors as ours; the exit code of the multirun, if it was one."""
    refuse_old_hydra()
    offer_foreign(arguments)
    offer_own(arguments)
    import hydra
    from hydra.errors import HydraException
    from hydra_plugins.normbench import LocalLauncher
    from omegaconf.errors import OmegaConfBaseException

    register()
    LocalLauncher.exit_codes.clear()
    os.environ["HYDRA_FULL_ERROR"] = "1"  # exceptions come out as they are
    with tempfile.TemporaryDirectory() as folder:  # for the multirun.yaml that nobody asked for
        sys.argv = ["normbench train", *arguments]
        if {"-m", "--multirun"} & set(arguments):
            sys.argv.append(f"hydra.sweep.dir={folder}")
        try:
            app = hydra.main(
                config_path="pkg://normbench.conf", config_name="train", **version_base()
            )
            app(job)()
        except (HydraException, OmegaConfBaseException) as error:
            raise UserError(readable(error)) from None
    return max(LocalLauncher.exit_codes, default=0)


def register() -> None:
    """Our plugins, which Hydra finds by itself, but not in an editable install."""
    from hydra.core.plugins import Plugins
    from hydra_plugins.normbench import GridSweeper, LocalLauncher, OwnChoices

    for plugin in (LocalLauncher, GridSweeper, OwnChoices):
        Plugins.instance().register(plugin)


def version_base() -> dict[str, str]:
    """What Hydra before 1.4 wants to be told, and later ones do not."""
    return {"version_base": "1.3"} if version("hydra-core") < "1.4" else {}


def refuse_old_hydra() -> None:
    """FailedError on Python 3.14, where Hydra 1.3 cannot build its parser."""
    if sys.version_info >= (3, 14) and version("hydra-core") < "1.4":
        raise FailedError(
            f"hydra-core {version('hydra-core')} does not run on Python 3.14;"
            " install hydra-core 1.4 or newer, or use Python 3.13"
        )

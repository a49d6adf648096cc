"""Hydra's plugins: `train -m` plans and runs its grid as `normbench sweep` does.

Installed as `hydra_plugins.normbench`, the one place where Hydra looks for plugins.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING, Any, ClassVar

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override
    from omegaconf import DictConfig


class GridSweeper(BasicSweeper):
    """`hydra/sweeper=grid`: every combination, as Hydra's own sweeper, which composes each of them
    to see whether it can; here the launcher says that of each cell."""

    @staticmethod
    def split_arguments(
        overrides: list[Override], max_batch_size: int | None
    ) -> list[list[list[str]]]:
        from normbench.study.grid import bounded

        discrete = [one for one in overrides if one.is_discrete_sweep()]
        bounded(prod(sum(1 for _ in one.sweep_string_iterator()) for one in discrete))
        found: list[list[list[str]]] = BasicSweeper.split_arguments(overrides, max_batch_size)
        return found

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        """Nothing: a cell that cannot be composed is reported, and does not stop the others."""


class LocalLauncher(Launcher):
    """`hydra/launcher=local`: each cell in a fresh process, several at a time.

    `exit_codes` grows by one a multirun.
    """

    exit_codes: ClassVar[list[int]] = []

    def setup(self, *, hydra_context: Any, task_function: Any, config: DictConfig) -> None:
        self.loader, self.config = hydra_context.config_loader, config

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> list[JobReturn]:
        from normbench.cli.hydra import plain
        from normbench.cli.sweep import run_all

        self.exit_codes.append(run_all(job_overrides, plain(self.config), self.configuration))
        return [JobReturn(status=JobStatus.COMPLETED) for _ in job_overrides]

    def configuration(self, overrides: Sequence[str]) -> DictConfig:
        """The configuration of one cell. UserError for what it does not have."""
        from hydra.errors import HydraException
        from omegaconf.errors import OmegaConfBaseException

        from normbench.cli.help import readable
        from normbench.errors import UserError

        try:
            config: DictConfig = self.loader.load_sweep_config(self.config, [*overrides])
        except (HydraException, OmegaConfBaseException) as error:
            raise UserError(readable(error)) from None
        return config

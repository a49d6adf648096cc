"""`hydra/launcher=local`: each cell of a multirun in a fresh process, several at a time.

Installed as `hydra_plugins.normbench`, the one place where Hydra looks for launchers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from normbench.study.jobs import Job


class LocalLauncher(Launcher):
    """Runs what is not done yet, as `normbench sweep` does; `exit_codes` grows by one a multirun."""

    exit_codes: ClassVar[list[int]] = []

    def setup(self, *, hydra_context: Any, task_function: Any, config: DictConfig) -> None:
        self.loader, self.config = hydra_context.config_loader, config

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> list[JobReturn]:
        from normbench.cli.main import plain, run_all

        jobs = [self.job(tuple(overrides)) for overrides in job_overrides]
        self.exit_codes.append(run_all(jobs, plain(self.config)))
        return [JobReturn(status=JobStatus.COMPLETED) for _ in jobs]

    def job(self, overrides: tuple[str, ...]) -> Job:
        """A job from its overrides; a mistake in them is kept as the job's error."""
        from hydra.errors import HydraException
        from omegaconf.errors import OmegaConfBaseException

        from normbench.cli.help import readable
        from normbench.cli.main import cell, plain
        from normbench.errors import UserError
        from normbench.study.jobs import Job

        try:
            config = self.loader.load_sweep_config(self.config, [*overrides])
            return Job(overrides, cell(plain(config)))
        except (UserError, HydraException, OmegaConfBaseException) as error:
            return Job(overrides, None, readable(error))

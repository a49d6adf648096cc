"""`normbench report`: tables and figures of a study, a pure function of its records.

Imports neither torch nor Hydra. The way through: arguments, experiment (which cells there should
be), runs (which records there are), study (the one laid over the other), tables, then one module a
format and one a figure.
"""

from __future__ import annotations


def main(arguments: list[str]) -> int:
    """Writes the report that the arguments ask for, or with `claims` first what the runs say of the
    papers' claims; prints its tables, returns the exit code."""
    if arguments[:1] == ["claims"]:
        from normbench.report.claims.command import run as run_claims

        return run_claims(arguments[1:])
    from normbench.report.command import run

    return run(arguments)

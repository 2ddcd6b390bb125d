"""Errors that a user of ivyport can meet.

Every message states what was received, where, and what to do about it. Nothing has been written to
disk when one of these is raised: files are written to a temporary name and renamed at the end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ivyport.core.checks import Line
    from ivyport.core.report import Report


class IvyportError(Exception):
    """Base of every error raised on purpose; the command line prints it without a traceback."""


class DependencyError(IvyportError):
    """A framework that this port needs is not installed; the message names the extra to install."""


class SourceError(IvyportError):
    """The source model cannot be found, read or built (folder, hub id, class, remote code)."""


class FactoryError(SourceError):
    """The user's own factory raises; the message holds its traceback, and is not ivyport's."""


class InputError(IvyportError):
    """Example inputs do not fit the source's signature (names, dtypes or shapes)."""


class TraceError(IvyportError):
    """The source cannot be captured, for instance because its control flow depends on data."""


class UnsupportedOpsError(IvyportError):
    """One or more source operations have no lowering; all of them are listed at once.

    `stuck` is a symbolic size that has to be constant for them to have one, why, and the line.
    """

    stuck: tuple[str, str, Line | None] | None = None


class GraphError(IvyportError):
    """A graph violates the specification in `ivyport.core.verify`: a defect of ivyport itself."""


class DefectError(IvyportError):
    """ivyport itself failed; the message says where in ivyport, and how to report it."""


class WeightsError(IvyportError):
    """Weights are truncated, missing, unexpected or mis-shaped; all differences are listed."""


class ParityError(IvyportError):
    """The port does not reproduce the source; the first drifting module is named.

    Attributes:
        report: every comparison that was made, the failing ones among them.
    """

    def __init__(self, message: str, report: Report | None = None) -> None:
        super().__init__(message)
        self.report = report


def causes(error: BaseException) -> list[BaseException]:
    """The error and what it was raised from, the first cause first."""
    chain = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) is not None:
        if cause in chain:
            break
        chain.append(cause)
    return chain[::-1]

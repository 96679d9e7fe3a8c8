"""How many files of a run may fail before it stops."""

from __future__ import annotations

import math
from dataclasses import dataclass

from segue.errors import ConfigurationError

LEAST_TRIED = 100  # files, before a share of them says anything


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureLimit:
    """A number of files, or a share of those that were tried."""

    files: int | None = None
    share: float | None = None

    @classmethod
    def parse(cls, text: str | int) -> FailureLimit:
        """Parse ``20`` or ``1%``.

        Raises
        ------
        ConfigurationError
            If it is neither a number of files from 1 up nor a share above 0 % and up to 100 %.
        """
        given = str(text).strip()
        try:
            if given.endswith("%"):
                share = float(given[:-1]) / 100
                if 0 < share <= 1:
                    return cls(share=share)
            elif (files := int(given)) >= 1:
                return cls(files=files)
        except ValueError:
            pass
        raise ConfigurationError(
            f"{given!r} is not a limit of failures; write a number of files, such as 20, "
            "or a share of the files, such as 1%"
        )

    def __str__(self) -> str:
        return f"{self.files:,}" if self.share is None else f"{100 * self.share:g}%"

    def is_reached(self, failed: int, tried: int) -> bool:
        """Whether so many failures of so many files are too many."""
        if self.share is None:
            return self.files is not None and failed >= self.files
        return tried >= LEAST_TRIED and failed > self.share * tried

    def divide(self, workers: int) -> FailureLimit:
        """Return the limit of one of several workers, who share the files evenly."""
        if self.files is None:
            return self
        return FailureLimit(files=math.ceil(self.files / workers))

"""The errors a user sees: one clear sentence each, never a traceback."""


class MedllmError(Exception):
    """Something the user can act on; its text is one clear sentence that names the place and the remedy."""


class UnreadableFileError(MedllmError):
    """A raw file cannot be read at all: missing, not of its format, or refused for safety.

    :param path: the file, as the user named it.
    :param reason: short, lower case, no trailing full stop: ``"not a gzip file"``.
    """

    def __init__(self, path: object, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


class LedgerError(MedllmError):
    """A step's counts do not balance, or more was dropped than allowed."""

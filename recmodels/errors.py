"""The errors a user can cause, so that the command line can print them without a traceback."""


class UserError(Exception):
    """Something the user can mend: a key, a value, a file.

    The message names what, where, got, expected and the nearest valid choice. The command line prints it and exits
    with code 2; as a library it is an ordinary exception.
    """


class ParamError(UserError, ValueError):
    """A configuration key or value is unknown, missing, of the wrong type or out of range."""


class DataError(UserError, ValueError):
    """A data set is absent, empty or malformed."""


class CheckpointError(UserError, RuntimeError):
    """A checkpoint or run folder is truncated, foreign or of an unknown version."""


class TrainingError(RuntimeError):
    """Training cannot go on; the command line prints the reason and exits with code 1."""


class NonFiniteError(TrainingError):
    """A loss or gradient became NaN or infinite and the policy gave up."""


class AuditError(TrainingError):
    """Part of a model is not trained although it looks as if it were."""

"""The four errors, sorted by what the reader must do.

::

    OptimizerError
    |- ConfigError        the operator erred; stop before the first read
    |- DataError          telemetry contradicts itself; hold this target, go on with the rest
    |- ConflictError      the ledger or a gateway moved beneath us; the next run reads it anew
    `- UnavailableError   a dependency did not answer; the only one that is retried
"""


class OptimizerError(Exception):
    """Something the optimizer refuses to pass over."""


class ConfigError(OptimizerError):
    """The operator's configuration cannot be used as written."""


class DataError(OptimizerError):
    """Telemetry or stored evidence contradicts itself."""


class ConflictError(OptimizerError):
    """Someone else changed the record or the gateway first."""


class UnavailableError(OptimizerError):
    """A dependency did not answer, or not in time."""

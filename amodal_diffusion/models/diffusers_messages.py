"""A message of diffusers that says nothing, and is kept out of the log."""

import logging

_EMPTY = "that should be kept in float32: []."


def drop_empty_float32_warning(record: logging.LogRecord) -> bool:
    """False for diffusers' warning of modules to keep in float32 where it lists none.

    `ModelMixin.to` of diffusers 0.42 warns at every change of dtype, whether or not there are such modules, of our
    networks and of its own. A warning that names modules passes.

    Example:
        >>> record = logging.makeLogRecord({"msg": "There are modules in X that should be kept in float32: []."})
        >>> drop_empty_float32_warning(record)
        False
    """
    return _EMPTY not in record.getMessage()


logging.getLogger("diffusers.models.modeling_utils").addFilter(drop_empty_float32_warning)

"""Errors whose message is meant for the person at the command line: one line that says what to do."""


class UserError(ValueError):
    """Something the user gave cannot be used; the message says what was wrong, what was expected and what to do."""


class DeviceError(RuntimeError):
    """The device asked for cannot be used; the message says what is missing and what to do."""

"""What can be wrong with a device before anything runs on it."""


class DeviceError(RuntimeError):
    """The device asked for cannot be used; the message says what is missing and what to do."""

"""What can not be looked at: not even bytes that might be something."""


class InspectError(Exception):
    """Nothing to look at; the message says what was found, and what can be given."""

    exit_code = 1

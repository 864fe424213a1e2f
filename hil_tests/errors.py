"""What the demo and the rigs refuse, said for the person who typed it."""


class HilError(Exception):
    """Base; ``exit_code`` 2: the caller's mistake."""

    exit_code = 2


class RigError(HilError):
    """The rig itself failed: a process did not start or a command was refused. Not the thing under test."""

    exit_code = 1


class StoryFailed(HilError):
    """What had to follow in a story did not."""

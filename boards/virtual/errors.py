"""What can go wrong with a virtual board."""


class BoardError(Exception):
    """Misuse of a virtual board, or a machine that can not run one."""


class WaitTimeout(BoardError):
    """The board did not get to what was waited for."""

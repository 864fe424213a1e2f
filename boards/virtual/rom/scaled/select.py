# mypy: ignore-errors
"""The built-in `select`, except that long waits take the board's time, which a test can make run faster."""

import _scaled
import uselect
from uselect import POLLERR, POLLHUP, POLLIN, POLLOUT  # noqa: F401  (re-exported: this module shadows the built-in)


class _Poll:
    def __init__(self):
        poller = uselect.poll()
        self._poller = poller
        self.register = poller.register
        self.unregister = poller.unregister
        self.modify = poller.modify

    def poll(self, timeout=-1):
        return _scaled.poll(self._poller.poll, timeout)

    def ipoll(self, timeout=-1, flags=0):
        if flags or timeout < 0:
            return self._poller.ipoll(timeout, flags)
        return iter(_scaled.poll(self._poller.poll, timeout))


def poll():
    return _Poll()

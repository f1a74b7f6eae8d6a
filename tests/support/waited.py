"""Waiting for other processes."""

import time


def wait_for(condition, limit_s=60.0, every_s=0.02):
    """Return what a condition returns as soon as that is true."""
    end = time.monotonic() + limit_s
    while not (found := condition()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(every_s)
    return found

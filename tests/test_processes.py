"""Processes are told apart by host, id and start."""

import subprocess
import sys

from fake_dft import wait_until

from gasearch import processes


def test_a_process_is_known_by_its_id_and_its_start():
    own = processes.identity()
    assert processes.is_alive(own)
    assert not processes.is_alive({**own, "started": "another time"})
    assert not processes.is_alive(None)
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    known = processes.identity(child.pid)
    assert processes.is_alive(known)
    child.kill()
    wait_until(lambda: not processes.is_alive(known))  # a zombie is dead
    child.communicate()
    assert processes.is_alive({**known, "host": "elsewhere"})  # nobody can tell from here

"""A browser that tests drive: Chromium without a window, by its debugging protocol over pipes."""

import base64
import contextlib
import json
import os
import select
import shutil
import subprocess
import sys
import time

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
# A browser reads from descriptor 3 and writes to 4.
_EXEC = """
import fcntl, os, sys
read, write = (fcntl.fcntl(int(n), fcntl.F_DUPFD, 20) for n in sys.argv[1:3])
os.dup2(read, 3)
os.dup2(write, 4)
os.execvp(sys.argv[3], sys.argv[3:])
"""


def find_browser():
    """Return a browser's name; skip where there is none, unless the tests are to be whole."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        if os.environ.get("CI", "").lower() in ("true", "1"):
            pytest.fail("no browser here, though CI is set: install chromium")
        pytest.skip(f"no browser here ({', '.join(BROWSERS)})")
    return found


class Page:
    """One tab of a browser of its own.

    Parameters
    ----------
    profile
        A folder that it may write into.
    """

    def __init__(self, profile, width=1400, height=1000):
        (read_end, theirs_out), (theirs_in, write_end) = os.pipe(), os.pipe()
        words = [find_browser(), "--headless", "--no-sandbox", "--disable-gpu"]
        words += ["--disable-dev-shm-usage", "--remote-debugging-pipe", "--no-first-run"]
        words += [f"--user-data-dir={profile}", f"--window-size={width},{height}"]
        command = [sys.executable, "-c", _EXEC, str(theirs_in), str(theirs_out), *words]
        self._process = subprocess.Popen(
            command,
            pass_fds=(theirs_in, theirs_out),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._in, self._out = read_end, write_end
        self._rest, self._last, self._session = b"", 0, None
        self.console, self.requests = [], []
        target = self._ask("Target.createTarget", url="about:blank")["targetId"]
        found = self._ask("Target.attachToTarget", targetId=target, flatten=True)
        self._session = found["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._ask(f"{domain}.enable")
        self._ask("Performance.enable", timeDomain="threadTicks")

    def __enter__(self):
        return self

    def __exit__(self, *error):
        with contextlib.suppress(OSError, TimeoutError, AssertionError):
            self._session = None
            self._ask("Browser.close", timeout_s=5)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._in)
        os.close(self._out)

    def open(self, address):
        """Go to an address."""
        answer = self._ask("Page.navigate", url=address)
        assert "errorText" not in answer, answer

    def run(self, expression):
        """Return the value of javascript; a promise is waited for."""
        found = self._ask(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def wait_for(self, expression, timeout_s=60):
        """Return the first value of javascript that is true."""
        end_s = time.monotonic() + timeout_s
        while not (found := self.run(expression)):
            assert time.monotonic() < end_s, f"never true: {expression}; console: {self.console}"
            time.sleep(0.05)
        return found

    def move(self, x, y):
        """Move the pointer to a place."""
        self._ask("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def click(self, x, y):
        """Click with the mouse, as a user does."""
        self.move(x, y)
        for kind in ("mousePressed", "mouseReleased"):
            self._ask("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def click_on(self, selector):
        """Click into the middle of an element."""
        x, y = self.run(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)}); "
            "e.scrollIntoView({block: 'center'}); const r = e.getBoundingClientRect(); "
            "return [r.x + r.width / 2, r.y + r.height / 2]; })()"
        )
        self.click(x, y)

    def cpu_s(self):
        """Return the CPU time of the page's own thread, in seconds."""
        found = {
            one["name"]: one["value"] for one in self._ask("Performance.getMetrics")["metrics"]
        }
        return found["TaskDuration"]

    def picture(self, path):
        """Write what is seen to a PNG file."""
        path.write_bytes(base64.b64decode(self._ask("Page.captureScreenshot")["data"]))

    def _ask(self, method, timeout_s=60, **parameters):
        self._last += 1
        message = {"id": self._last, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        end_s = time.monotonic() + timeout_s
        while True:
            found = self._next(end_s)
            if found.get("id") == self._last:
                assert "error" not in found, found["error"]
                return found["result"]
            self._note(found)

    def _next(self, end_s):
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._in], [], [], max(0.0, end_s - time.monotonic()))
            if not ready:
                raise TimeoutError("the browser does not answer")
            new = os.read(self._in, 1 << 20)
            if not new:
                raise OSError("the browser has gone")
            self._rest += new
        message, _, self._rest = self._rest.partition(b"\0")
        return json.loads(message)

    def _note(self, event):
        parameters = event.get("params", {})
        if event.get("method") == "Runtime.consoleAPICalled":
            self.console.append(str(parameters["args"]))
        elif event.get("method") == "Runtime.exceptionThrown":
            self.console.append(str(parameters["exceptionDetails"]))
        elif event.get("method") == "Log.entryAdded":
            self.console.append(parameters["entry"]["text"])
        elif event.get("method") == "Network.requestWillBeSent":
            self.requests.append(parameters["request"]["url"])

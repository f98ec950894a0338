"""Headless Chromium for tests, controlled by the DevTools protocol over two pipes."""

import base64
import contextlib
import fcntl
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Self

PROGRAM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

_START = """
import os, sys
os.dup2(int(sys.argv[1]), 3); os.dup2(int(sys.argv[2]), 4)
os.execvp(sys.argv[3], sys.argv[3:])
"""


class Chromium:
    """A browser whose camera shows `film`, a Motion JPEG; `requests` are the URLs that its pages requested."""

    def __init__(self, film: Path | None = None) -> None:
        assert PROGRAM is not None
        self.requests: list[str] = []
        self._count, self._rest = 0, b""
        self._responses: dict[int, dict[str, Any]] = {}
        self._home = tempfile.mkdtemp(prefix="chromium_")
        ours, theirs = os.pipe(), os.pipe()  # theirs is read here
        far = [fcntl.fcntl(fd, fcntl.F_DUPFD, 20) for fd in (ours[0], theirs[1])]
        self._write, self._read = ours[1], theirs[0]
        camera = [f"--use-file-for-fake-video-capture={film}"] if film else []
        options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-dev-shm-usage",
                   "--disable-background-networking", "--disable-component-update", "--disable-sync",
                   "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream", *camera,
                   "--remote-debugging-pipe", f"--user-data-dir={self._home}", "--window-size=1100,1000"]  # fmt: skip
        command = [sys.executable, "-c", _START, *map(str, far), PROGRAM, *options, "about:blank"]
        self._process = subprocess.Popen(
            command, pass_fds=far, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        for fd in (*far, ours[0], theirs[1]):
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)  # a group of its own, started here
        self._process.wait(10)
        os.close(self._write)
        os.close(self._read)
        shutil.rmtree(self._home, ignore_errors=True)

    def page(self, url: str) -> "Page":
        """Open `url` as another person would: in a profile of its own."""
        context = self.call("Target.createBrowserContext")["browserContextId"]
        target = self.call("Target.createTarget", url="about:blank", browserContextId=context)["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = Page(self, session, target)
        for domain in ("Page", "Network", "Runtime"):
            page.call(f"{domain}.enable")
        page.call("Page.navigate", url=url)
        return page

    def call(self, method: str, session: str | None = None, seconds: float = 30, **parameters: Any) -> dict[str, Any]:
        self._count += 1
        message = {"id": self._count, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        number, end = self._count, time.monotonic() + seconds
        while number not in self._responses:
            if not select.select([self._read], [], [], max(0, end - time.monotonic()))[0]:
                raise TimeoutError(f"Chromium does not respond to {method}")
            self._receive()
        response = self._responses.pop(number)
        if "error" in response:
            raise RuntimeError(f"{method}: {response['error']}")
        return dict(response["result"])

    def _receive(self) -> None:
        data = os.read(self._read, 2**20)
        if not data:
            raise RuntimeError("Chromium has exited")
        *whole, self._rest = (self._rest + data).split(b"\0")
        for message in map(json.loads, whole):
            if "id" in message:
                self._responses[message["id"]] = message
            elif message["method"] == "Network.requestWillBeSent":
                self.requests.append(message["params"]["request"]["url"])


class Page:
    def __init__(self, browser: Chromium, session: str, target: str) -> None:
        self._browser, self._session, self._target = browser, session, target

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        return self._browser.call(method, self._session, **parameters)

    def evaluate(self, script: str) -> Any:
        response = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in response:
            raise RuntimeError(json.dumps(response["exceptionDetails"])[:500])
        return response["result"].get("value")

    def until(self, script: str, seconds: float = 40) -> None:
        """Wait until `script` is true."""
        end = time.monotonic() + seconds
        while not self.evaluate(f"!!({script})"):
            if time.monotonic() > end:
                raise TimeoutError(f"never true: {script}; the page says {self.evaluate('document.body.innerText')!r}")
            time.sleep(0.1)

    def choose(self, selector: str, path: Path) -> None:
        """Put a file into an input."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(path)])

    def screenshot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))

    def close(self) -> None:
        self._browser.call("Target.closeTarget", targetId=self._target)

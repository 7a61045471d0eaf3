"""A real headless Chromium, driven through its debugging pipe: it does what a person would and says what it sees."""

import itertools
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium: apt-get install chromium")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--hide-scrollbars",
    "--disable-dev-shm-usage",
    "--no-first-run",
)


class Browser:
    def __init__(self, to: int, back: int):
        self._to, self._back, self._left, self._ids = to, back, b"", itertools.count(1)
        self._session = None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.said: list[dict] = []  # warnings and errors of pages, and addresses that they ask
        for domain in ("Page", "Runtime", "Log", "Network", "DOM"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict:
        id = next(self._ids)
        message = {"id": id, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            found = self._message()
            if found.get("id") == id:
                assert "error" not in found, found
                return found["result"]
            if found.get("method") in ("Log.entryAdded", "Runtime.exceptionThrown", "Network.requestWillBeSent"):
                self.said.append(found)

    def _message(self) -> dict:
        while b"\0" not in self._left:
            piece = os.read(self._back, 2**16)
            assert piece, "chromium has ended"
            self._left += piece
        first, _, self._left = self._left.partition(b"\0")
        return json.loads(first)

    def run(self, script: str) -> Any:
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def open(self, address: str) -> None:
        self.call("Page.navigate", url=address)

    def until(self, script: str, seconds: float = 120) -> Any:
        """Its value, once it is true; an element has none, so ask `!!element`."""
        end = time.monotonic() + seconds
        while not (found := self.run(script)):
            assert time.monotonic() < end, f"never: {script}\n{self.run('document.body.innerText')}"
            time.sleep(0.05)
        return found

    def point(self, selector: str, *, click: bool = False) -> None:
        """Move the mouse over an element, as a person does; and click."""
        box = self.run(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)});"
            " e.scrollIntoView({block: 'center'}); const b = e.getBoundingClientRect();"
            " return [b.x + b.width / 2, b.y + b.height / 2]; })()"
        )
        where = {"x": box[0], "y": box[1], "button": "left", "clickCount": 1}
        for kind in ("mouseMoved", *(("mousePressed", "mouseReleased") if click else ())):
            self.call(
                "Input.dispatchMouseEvent", type=kind, **(where if kind != "mouseMoved" else where | {"button": "none"})
            )

    def press(self, key: str) -> None:
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key)

    def choose_files(self, selector: str, *paths: Path) -> None:
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(path) for path in paths])

    def look(self, *, width: int, height: int, dark: bool = False) -> None:
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])


@contextmanager
def running_chromium(profile: Path) -> Iterator[Browser]:
    """With a profile folder of its own."""
    theirs, to = os.pipe()
    back, ours = os.pipe()

    def connect() -> None:  # it reads from 3 and writes to 4
        a, b = os.dup(theirs), os.dup(ours)
        os.dup2(a, 3)
        os.dup2(b, 4)

    command = [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", "--remote-debugging-pipe"]
    process = subprocess.Popen(
        command, preexec_fn=connect, close_fds=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    os.close(theirs), os.close(ours)
    try:
        yield Browser(to, back)
    finally:
        process.kill()
        process.wait()
        os.close(to), os.close(back)

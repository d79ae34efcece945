"""A Chromium without a window, told what to do through chromedriver, which speaks JSON over HTTP (W3C WebDriver).

    with Browser(folder) as browser:
        browser.open("http://127.0.0.1:8000/")
        browser.write("#ask", "hello" + ENTER)
        browser.until("document.querySelector('.prose').innerText === 'hi'")

Nothing sleeps for a time that should do: until() looks again and again.
"""

import base64
import json
import re
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

ENTER, ESCAPE, TAB, BACKSPACE, SHIFT, CONTROL, UP, DOWN = "\ue007", "\ue00c", "\ue004", "\ue003", "\ue008", "\ue009", "\ue013", "\ue015"
PATIENCE = 30.0  # seconds until something that should happen is said not to: for machines that have other things to do
MOUSE = "--blink-settings=primaryHoverType=2,availableHoverTypes=2,primaryPointerType=4,availablePointerTypes=4"
FINGER = "--blink-settings=primaryHoverType=1,availableHoverTypes=1,primaryPointerType=2,availablePointerTypes=2"
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # by this name a result of WebDriver is an element
ARGUMENTS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-quic", "--no-first-run", "--no-proxy-server",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions", "--hide-scrollbars",
)  # fmt: skip


def missing() -> str:
    """What is not there to run a browser with, as a sentence, or nothing."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    absent = [name for name, path in (("Chromium", chromium), ("chromedriver", shutil.which("chromedriver"))) if path is None]
    return f"there is no {' and no '.join(absent)} here (on Debian: apt install chromium chromium-driver)" if absent else ""


class Browser:
    """The folder is for the profile and for downloads."""

    def __init__(self, folder: Path, phone: bool = False):
        self.folder, self.downloads, self.phone = folder, folder / "downloads", phone
        self.downloads.mkdir(parents=True)

    def __enter__(self) -> "Browser":
        self.driver = subprocess.Popen(["chromedriver", "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        try:
            for line in self.driver.stdout:
                if port := re.search(r"started successfully on port (\d+)", line):
                    break
            self.session = f"http://127.0.0.1:{port[1]}/session"
            options = {"args": [*ARGUMENTS, FINGER if self.phone else MOUSE, f"--user-data-dir={self.folder / 'profile'}"]}
            wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
            self.session += "/" + self.command("POST", "", capabilities={"alwaysMatch": wanted})["sessionId"]
        except BaseException:
            self.driver.terminate()
            raise
        self.devtools("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(self.downloads))
        self.resize(*((390, 844) if self.phone else (1280, 800)))
        return self

    def __exit__(self, *error) -> None:
        self.command("DELETE", "")
        self.driver.terminate()
        self.driver.wait()
        self.driver.stdout.close()

    def command(self, method: str, path: str, **body: object) -> object:
        data = json.dumps(body).encode() if method == "POST" else None
        request = urllib.request.Request(self.session + path, data, {"Content-Type": "application/json"}, method=method)
        try:
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=2 * PATIENCE) as response:
                return json.load(response)["value"]
        except urllib.error.HTTPError as error:
            raise AssertionError(json.load(error)["value"]["message"].split("\n")[0]) from None

    def devtools(self, name: str, **parameters: object) -> object:
        return self.command("POST", "/goog/cdp/execute", cmd=name, params=parameters)

    # looking

    def open(self, url: str) -> None:
        self.command("POST", "/url", url=url)

    def run(self, script: str, *arguments: object) -> object:
        return self.command("POST", "/execute/sync", script=script, args=arguments)

    def value(self, expression: str) -> object:
        return self.run(f"return {expression}")

    def until(self, condition: str | Callable[[], object]) -> object:
        """What the condition, Python's or the page's, gives when it is true at last."""
        end = time.monotonic() + PATIENCE
        while not (value := condition() if callable(condition) else self.value(condition)):
            if time.monotonic() > end:
                raise AssertionError(f"in {PATIENCE:.0f} s it never came to {condition}. The page says: {self.value('document.body.innerText')!r}")
            time.sleep(0.02)
        return value

    def text(self, selector: str) -> str:
        return self.run("return document.querySelector(arguments[0])?.innerText ?? ''", selector)

    def texts(self, selector: str) -> list[str]:
        return self.run("return [...document.querySelectorAll(arguments[0])].map((node) => node.innerText)", selector)

    def count(self, selector: str) -> int:
        return self.run("return document.querySelectorAll(arguments[0]).length", selector)

    def complaints(self) -> list[str]:
        """What the console has said since the last time, but for the failed requests that a test has asked for."""
        log = self.command("POST", "/se/log", type="browser")
        return [entry["message"] for entry in log if "Failed to load resource" not in entry["message"]]

    def screenshot(self) -> bytes:
        return base64.b64decode(self.command("GET", "/screenshot"))

    # doing

    def find(self, selector: str) -> str:
        return self.command("POST", "/element", using="css selector", value=selector)[ELEMENT]

    def click(self, selector: str) -> None:
        """As a person does: where it is seen, and fails where something else lies above it."""
        self.until(lambda: self.count(selector))
        self.command("POST", f"/element/{self.find(selector)}/click")

    def hover(self, selector: str) -> None:
        move = {"type": "pointerMove", "duration": 0, "origin": {ELEMENT: self.find(selector)}, "x": 0, "y": 0}
        self.command("POST", "/actions", actions=[{"type": "pointer", "id": "mouse", "actions": [move]}])

    def write(self, selector: str, text: str) -> None:
        self.command("POST", f"/element/{self.find(selector)}/value", text=text)

    def paste(self, selector: str, text: str) -> None:
        self.run("document.querySelector(arguments[0]).focus()", selector)
        self.devtools("Input.insertText", text=text)

    def press(self, *keys: str) -> None:
        """Keys that are held down together, wherever the focus is; a longer text is typed."""
        if len(keys) == 1 and len(keys[0]) > 1:
            for key in keys[0]:
                self.press(key)
            return
        strokes = [{"type": "keyDown", "value": key} for key in keys] + [{"type": "keyUp", "value": key} for key in reversed(keys)]
        self.command("POST", "/actions", actions=[{"type": "key", "id": "keyboard", "actions": strokes}])

    def resize(self, width: int, height: int) -> None:
        scale = 2 if self.phone else 1
        self.devtools("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=self.phone)

    def prefer(self, **features: str) -> None:
        """What the system prefers: color_scheme="dark", reduced_motion="reduce"."""
        media = [{"name": f"prefers-{name.replace('_', '-')}", "value": value} for name, value in features.items()]
        self.devtools("Emulation.setEmulatedMedia", features=media)

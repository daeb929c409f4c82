"""A JupyterLab server of its own, and a page of it in Chromium, for the tests that drive notebooks by hand."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PATIENCE = 60_000  # ms for one thing to happen: tests may run beside other work
LONGEST = 600_000  # ms for a notebook
SETTINGS = {
    "notebook-extension/tracker": {"windowingMode": "none"},  # all cells are in the page
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
}
FAULTS = """() => [...document.querySelectorAll(
    '.jp-RenderedText[data-mime-type="application/vnd.jupyter.error"], .jupyter-widgets-error-widget'
)].map(node => node.innerText)"""
BEGUN = "() => /\\[[\\d*]+\\]/.test(document.querySelector('.jp-Notebook .jp-CodeCell .jp-InputPrompt').innerText)"
DONE = """() => {
    const cells = [...document.querySelectorAll('.jp-Notebook .jp-CodeCell')];
    const prompts = cells.map(cell => cell.querySelector('.jp-InputPrompt').innerText);
    return prompts.every(text => /\\[\\d+\\]/.test(text));
}"""


@contextmanager
def jupyterlab(folder: Path, home: Path) -> Iterator[str]:
    """The address of a server that shows `folder`; its settings lie in `home`, so that none of the user's count."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for name, values in SETTINGS.items():
        path = home / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values))
    places = {"JUPYTER_CONFIG_DIR": "config", "JUPYTER_DATA_DIR": "data", "JUPYTER_RUNTIME_DIR": "runtime", "IPYTHONDIR": "ipython",
              "JUPYTERLAB_SETTINGS_DIR": "settings", "JUPYTERLAB_WORKSPACES_DIR": "workspaces"}  # fmt: skip
    environment = dict(os.environ) | {name: str(home / place) for name, place in places.items()}
    environment.pop("MPLBACKEND", None)  # a backend from the shell would keep figures out of the notebook
    options = ["--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}", "--ServerApp.port_retries=0",
               "--IdentityProvider.token=", "--ServerApp.disable_check_xsrf=True"]  # fmt: skip
    address = f"http://127.0.0.1:{port}"
    with (home / "server.log").open("w") as log:
        server = subprocess.Popen([sys.executable, "-m", "jupyterlab", *options, str(folder)], env=environment, stdout=log, stderr=log)
        try:
            for _ in range(600):
                try:
                    urllib.request.urlopen(f"{address}/api/status").close()
                    break
                except (urllib.error.URLError, ConnectionError):
                    if server.poll() is not None:
                        raise RuntimeError((home / "server.log").read_text()) from None
                    time.sleep(0.2)
            else:
                raise TimeoutError("JupyterLab does not answer: " + (home / "server.log").read_text())
            yield address
        finally:
            server.terminate()
            server.wait(60)


class LabPage:
    """A notebook in JupyterLab: what a user does, and what must not happen meanwhile.

    Args:
        browser: of Playwright. address: of the server. shots: folder for screenshots.
    """

    def __init__(self, browser, address: str, shots: Path):
        self.page = browser.new_page(viewport={"width": 1600, "height": 1400})
        self.page.set_default_timeout(PATIENCE)
        self.address, self.shots = address, shots
        self.faults: list[str] = []  # of scripts in the page
        self.strangers: list[str] = []  # addresses beyond this machine that the page asked for
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("request", lambda request: self._look_at(request.url))
        self.page.on("websocket", lambda socket: self._look_at(socket.url.replace("ws", "http", 1)))

    def _look_at(self, url: str) -> None:
        if not url.startswith((self.address, "data:", "blob:")):
            self.strangers.append(url)

    def open(self, name: str) -> None:
        """Open a notebook, and wait for its kernel."""
        self.page.goto(f"{self.address}/lab/workspaces/{name}/tree/{name}.ipynb?reset")
        self.page.wait_for_selector(".jp-Notebook .jp-Cell")
        self.page.wait_for_selector('.jp-Notebook-ExecutionIndicator[data-status="idle"]', state="attached")
        # Cells that are run before the kernel has heard of this page make JupyterLab ask for a kernel.
        while not any(found["kernel"]["connections"] and found["kernel"]["execution_state"] == "idle" for found in self.sessions(name)):
            self.page.wait_for_timeout(200)

    def sessions(self, name: str = "") -> list[dict]:
        """The server's sessions of a notebook, or all."""
        with urllib.request.urlopen(f"{self.address}/api/sessions") as answer:
            return [session for session in json.load(answer) if name in ("", session["path"].removesuffix(".ipynb"))]

    def close(self) -> None:
        """Close the page, and end its kernel."""
        self.page.close()
        for session in self.sessions():
            urllib.request.urlopen(urllib.request.Request(f"{self.address}/api/sessions/{session['id']}", method="DELETE")).close()

    def start(self) -> None:
        """Run all cells; it waits until the first one has begun."""
        from playwright.sync_api import TimeoutError as TooLate

        for _ in range(5):  # a page that is still being put together loses the first click
            self.page.get_by_role("menuitem", name="Run", exact=True).click()
            self.page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
            try:
                self.page.wait_for_function(BEGUN, timeout=20_000)
                return
            except TooLate:
                continue
        raise AssertionError("JupyterLab runs no cell")

    def run(self) -> None:
        """Run all cells to the last.

        Raises:
            AssertionError: a cell failed.
        """
        self.start()
        self.page.wait_for_function(f"() => ({DONE})() || ({FAULTS})().length > 0", timeout=LONGEST)
        self.check()

    def check(self) -> None:
        """No cell and no widget holds an error, no script failed, and no request left the machine."""
        assert self.page.evaluate(FAULTS) == []
        text = self.page.locator(".jp-Notebook").inner_text()
        assert not [fault for fault in ("Error displaying widget", "Error creating widget", "Traceback (most recent") if fault in text]
        assert self.faults == [] and self.strangers == []

    def shoot(self, name: str, selector: str | None = None) -> None:
        """A screenshot of the page, or of a part of it."""
        self.shots.mkdir(parents=True, exist_ok=True)
        (self.page.locator(selector).first if selector else self.page).screenshot(path=self.shots / f"{name}.png")

"""A headless Chromium that opens pages from disk, tells what they asked the network for, and takes pictures."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_SECONDS = 60


def missing_browser() -> str | None:
    """Tell what is missing to run a browser; ``None`` where all is there."""
    missing = [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]
    return f"{' and '.join(missing)} is not installed" if missing else None


@contextmanager
def browser() -> Iterator[Browser]:
    """Start a browser with a profile of its own, and end it."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = webdriver.ChromeOptions()
        options.binary_location = shutil.which("chromium")
        for flag in (
            "headless",
            "no-sandbox",
            "disable-gpu",
            "disable-quic",
            "disable-dev-shm-usage",
            "no-first-run",
            "disable-background-networking",
            "disable-component-update",
            "disable-sync",
            f"user-data-dir={profile}",
        ):
            options.add_argument(f"--{flag}")
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        driver = webdriver.Chrome(options, Service(shutil.which("chromedriver")))
        try:
            driver.set_page_load_timeout(_SECONDS)
            driver.set_script_timeout(_SECONDS)
            yield Browser(driver)
        finally:
            driver.quit()


class Browser:
    """The browser, as tests use it."""

    def __init__(self, driver: Any) -> None:
        self._driver = driver

    def open(self, page: Path, *, width: int, dark: bool = False) -> None:
        """Open a page at a width of the window, in light or dark colours."""
        devtools = self._driver.execute_cdp_cmd
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
        devtools("Emulation.setDeviceMetricsOverride", size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        devtools("Emulation.setEmulatedMedia", {"features": [scheme]})
        self._driver.get_log("performance")
        self._driver.get_log("browser")
        self._driver.get(page.as_uri())

    def run(self, script: str) -> Any:
        """Run JavaScript, and give what it returns."""
        return self._driver.execute_script(script)

    def messages(self) -> list[str]:
        """Give what the page wrote to the console since it was opened, errors of the browser included."""
        return [entry["message"] for entry in self._driver.get_log("browser")]

    def requests(self) -> list[str]:
        """Give the addresses that the page asked for since it was opened, its own included."""
        entries = [json.loads(entry["message"])["message"] for entry in self._driver.get_log("performance")]
        return [
            entry["params"]["request"]["url"] for entry in entries if entry["method"] == "Network.requestWillBeSent"
        ]

    def picture(self, path: Path) -> None:
        """Take a picture of the whole page."""
        import base64

        metrics = self._driver.execute_cdp_cmd("Page.getLayoutMetrics", {})
        size = metrics["cssContentSize"]
        shot = self._driver.execute_cdp_cmd(
            "Page.captureScreenshot",
            {
                "captureBeyondViewport": True,
                "clip": {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1},
            },
        )
        path.write_bytes(base64.b64decode(shot["data"]))

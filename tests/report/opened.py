"""A page that is open in the browser, and its pictures."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from playwright.sync_api import Page, Request

OPEN_S = 60.0
SHOTS = 6

Picture = npt.NDArray[np.int_]


class Opened:
    """A page in the browser, and all that it complained of or asked for."""

    def __init__(self, page: Page, file: Path) -> None:
        self.page, self.file = page, file
        self.complaints: list[str] = []
        self.requests: list[str] = []
        page.on("console", lambda message: self._heard(message.type, message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", self._asked)
        page.goto(file.as_uri())
        page.wait_for_selector("body[data-ready]", timeout=1000 * OPEN_S)

    def _heard(self, kind: str, text: str) -> None:
        if kind in {"error", "warning", "assert"}:
            self.complaints.append(f"{kind}: {text}")

    def _asked(self, request: Request) -> None:
        if not request.url.startswith("data:"):
            self.requests.append(request.url)

    def run(self, script: str) -> Any:
        """The value of an expression of the page's script."""
        return self.page.evaluate(script)

    def settled(self) -> None:
        """Wait until what was asked for is drawn."""
        self.run("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def wait(self, condition: str) -> None:
        """Wait until an expression is true; playwright's own way needs `eval`, which the page forbids."""
        self.run(
            f"new Promise((done) => {{ const look = () => ({condition} ? done() : setTimeout(look, 20)); look(); }})"
        )

    def choose_map(self, name: str) -> None:
        """Choose a map by the control, as a reader does."""
        self.page.select_option("#map", str(self.run(f"Data.maps.findIndex((map) => map.name === '{name}')")))
        self.settled()

    def slide(self, control: str, value: float) -> None:
        """Move a slider."""
        self.page.evaluate(
            "([id, value]) => { const slider = document.getElementById(id); slider.value = value;"
            " slider.dispatchEvent(new Event('input', {bubbles: true})); }",
            [control, value],
        )
        self.settled()

    def picture(self, selector: str = "#stage") -> Picture:
        """A screenshot (rows, columns, 3) of a part of the page."""
        part = self.page.locator(selector).first
        shot, before = part.screenshot(), b""
        for _ in range(SHOTS):  # a busy machine's screen may be behind the page: two alike have caught up
            if shot == before:
                break
            shot, before = part.screenshot(), shot
        return np.asarray(Image.open(io.BytesIO(shot)).convert("RGB")).astype(int)


def coloured(picture: Picture) -> npt.NDArray[np.bool_]:
    """Pixels that are no grey."""
    return np.asarray(picture.max(axis=2) - picture.min(axis=2) > 30)


def middle(of: npt.NDArray[np.bool_]) -> tuple[float, float]:
    """Where pixels are on the whole: right and down, as a share of the picture."""
    rows, columns = np.nonzero(of)
    assert len(rows) > 4
    return float(columns.mean() / of.shape[1]), float(rows.mean() / of.shape[0])

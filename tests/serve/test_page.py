"""The page in a real browser: files, the microphone, the banner, errors, the keyboard, narrow screens."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from tones import wav

pytestmark = pytest.mark.browser

PATIENCE = 120_000  # ms
SHOTS = os.environ.get("SOUNDMARK_SCREENSHOTS")  # a folder, for those who want to look


@pytest.fixture
def browse() -> Callable[..., Any]:
    """Open a page in Chromium, which may hear a recording as its microphone; anything it logs or fetches is kept."""
    sync_api = pytest.importorskip(
        "playwright.sync_api", reason="SKIPPED FOR WANT OF PLAYWRIGHT: the page is not tested"
    )
    program = os.environ.get("SOUNDMARK_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("SKIPPED FOR WANT OF CHROMIUM: the page is not tested in a browser")

    @contextmanager
    def browse(url: str, recording: Path | None = None, **options: Any) -> Iterator[Any]:
        arguments = ["--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream"]
        arguments += [f"--use-file-for-fake-audio-capture={recording}"] if recording else []
        arguments += ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
        with sync_api.sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=program, args=arguments)
            try:
                context = browser.new_context(permissions=["microphone"], **options)
                page = context.new_page()
                page.set_default_timeout(PATIENCE)
                page.complaints, page.fetched = [], []
                page.on("console", lambda told: told.type in ("error", "warning") and page.complaints.append(told.text))
                page.on("pageerror", lambda error: page.complaints.append(str(error)))
                page.on("request", lambda request: page.fetched.append(request.url))
                page.goto(url)
                until(page, "!!document.querySelector('#model').value || !document.querySelector('#error').hidden")
                yield page
                assert all(each.startswith((url, "data:", "blob:")) for each in page.fetched), page.fetched
            finally:
                browser.close()

    return browse


def until(page: Any, expression: str) -> None:
    """Wait for something. Playwright's own way would evaluate text in the page, which its policy forbids."""
    for _ in range(PATIENCE // 50):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(50)
    pytest.fail(f"never: {expression}")


def look(page: Any, name: str) -> None:
    if SHOTS:
        Path(SHOTS).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=f"{SHOTS}/{name}.png", full_page=True)


def fits(page: Any) -> bool:
    """Whether nothing sticks out to the right."""
    return bool(page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"))


def recording(tmp_path: Path, *parts: tuple[float, float], rate: int = 8000) -> Path:
    levels = np.concatenate([np.full(round(seconds * rate), level) for seconds, level in parts])
    path = tmp_path / "parts.wav"
    soundfile.write(path, levels * np.sin(0.3 * np.arange(len(levels))), rate)
    return path


def test_a_file_shows_labels_events_and_the_banner(
    started: Callable[..., Any], browse: Callable[..., Any], tmp_path: Path
) -> None:
    path = recording(tmp_path, (3, 0.001), (3, 0.5), (3, 0.001))
    with started() as service, browse(service.url) as page:
        page.set_input_files("#file", path)
        page.wait_for_selector("#alarm:not([hidden])")
        assert page.text_content("#alarm-title") == "Loud"
        assert "alarm from 70.0\u00a0% on" in page.text_content("#alarm-text")
        assert page.text_content("[role=alert]").startswith("Loud.")  # said aloud too, not by colour alone
        assert page.locator("#labels li").count() == 2
        assert "loud (alarm)" in page.text_content("#events")
        assert page.evaluate("document.querySelector('#spectrogram').width") > 100
        look(page, "tiny-file")
        page.click("#alarm-close")
        assert page.is_hidden("#alarm")
        page.set_input_files("#file", recording(tmp_path, (2, 0.001)))
        until(page, "document.querySelector('#what').textContent.includes('2.0 s')")
        assert page.is_hidden("#alarm")
        assert page.is_visible("#no-events")
        assert not page.complaints


def test_the_microphone_is_heard_until_it_is_stopped(
    started: Callable[..., Any], browse: Callable[..., Any], tmp_path: Path
) -> None:
    path = recording(tmp_path, (60, 0.5), rate=48_000)
    with started() as service, browse(service.url, path) as page:
        page.click("#microphone")
        page.wait_for_selector("#microphone[aria-pressed=true]")
        page.wait_for_selector("#alarm:not([hidden])")
        assert page.locator("#labels li .name").first.text_content() == "loud"
        until(page, "document.querySelector('#events').textContent.includes('goes on')")
        page.click("#microphone")
        page.wait_for_selector("#microphone[aria-pressed=false]")
        assert page.is_hidden("#error")
        assert not page.complaints


def test_errors_are_in_words(started: Callable[..., Any], browse: Callable[..., Any], tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    path.write_bytes(b"\x89PNG and so on")
    with started() as service, browse(service.url) as page:
        page.set_input_files("#file", path)
        page.wait_for_selector("#error:not([hidden])")
        assert "is a PNG picture, not a recording" in page.text_content("#error")
        assert page.text_content("[role=status]") == page.text_content("#error")
        look(page, "tiny-error")


def test_a_key_is_asked_for(started: Callable[..., Any], browse: Callable[..., Any], tmp_path: Path) -> None:
    with started(SOUNDMARK_KEYS="a-key-for-the-tests") as service, browse(service.url) as page:
        page.wait_for_selector("#key-form:not([hidden])")
        page.fill("#key", "a-key-for-the-tests")
        page.keyboard.press("Enter")
        until(page, "document.querySelector('#model').options.length > 0")
        assert page.is_hidden("#key-form")
        page.set_input_files("#file", recording(tmp_path, (1, 0.5)))
        page.wait_for_selector("#now:not([hidden])")


def test_the_keyboard_alone_is_enough(started: Callable[..., Any], browse: Callable[..., Any], tmp_path: Path) -> None:
    path = recording(tmp_path, (1, 0.5))
    with started() as service, browse(service.url) as page:
        reached = []
        for _ in range(8):
            page.keyboard.press("Tab")
            reached.append(page.evaluate("document.activeElement.id || document.activeElement.tagName"))
        assert [each for each in reached if each in ("model", "file", "microphone")] == ["model", "file", "microphone"]
        page.focus("#file")
        with page.expect_file_chooser() as chooser:
            page.keyboard.press("Enter")
        chooser.value.set_files(path)
        page.wait_for_selector("#alarm:not([hidden])")
        page.focus("#alarm-close")
        page.keyboard.press("Space")
        assert page.is_hidden("#alarm")
        assert page.evaluate("document.activeElement.id") == "microphone"
        page.focus("summary")
        page.keyboard.press("Enter")
        assert page.is_visible("#facts")


@pytest.mark.parametrize("width", [320, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_any_screen(
    started: Callable[..., Any], browse: Callable[..., Any], tmp_path: Path, width: int, scheme: str
) -> None:
    size = {"width": width, "height": 800}
    with started() as service, browse(service.url, viewport=size, color_scheme=scheme) as page:
        assert fits(page)
        page.set_input_files("#file", recording(tmp_path, (2, 0.001), (2, 0.5)))
        page.wait_for_selector("#alarm:not([hidden])")
        until(page, "document.querySelector('#busy').hidden")
        assert fits(page)
        assert page.evaluate("getComputedStyle(document.querySelector('#microphone')).minHeight") == "44px"


def test_a_drop_is_heard(started: Callable[..., Any], browse: Callable[..., Any]) -> None:
    with started() as service, browse(service.url) as page:
        content = list(wav(1, 0.5))
        page.evaluate(
            """content => {
                const files = new DataTransfer();
                files.items.add(new File([new Uint8Array(content)], "dropped.wav"));
                document.dispatchEvent(new DragEvent("drop", { dataTransfer: files, cancelable: true }));
            }""",
            content,
        )
        until(page, "document.querySelector('#what').textContent.includes('dropped.wav')")

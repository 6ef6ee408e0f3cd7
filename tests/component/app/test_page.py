"""The page in a real Chromium: upload, ask, watch the answer, look at its sources."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

ROOT = Path(__file__).parents[3]
DATA = ROOT / "tests" / "data"
IMAGES = ROOT / "docs" / "images"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
WIDE = {"width": 1280, "height": 800}
Serve = Callable[..., AbstractContextManager[Any]]
NARROW = {"width": 390, "height": 780}
ANSWER = (
    "Each parent has **22 weeks** of parental leave at full pay [1]:\n\n"
    "- in up to three blocks [1]\n- until the child is three years old [1]\n\n"
    "Give notice ten weeks ahead [1]."
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A headless Chromium from the system."""
    names = ("chromium", "chromium-browser", "google-chrome")
    path = next(filter(None, map(shutil.which, names)), None)
    if path is None:
        pytest.fail("no Chromium found: install it, on Debian with `apt-get install -y chromium`")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, headless=True, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Callable[..., Page]]:
    """``open_page(url, **context)`` opens the page; no error and no outside request is let by."""
    contexts = []
    problems: list[str] = []

    def open_at(url: str, **options: Any) -> Page:
        context = browser.new_context(viewport=options.pop("viewport", WIDE), **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(30_000)
        expect.set_options(timeout=30_000)
        page.on("pageerror", lambda error: problems.append(f"error: {error}"))
        page.on(
            "console",
            lambda m: problems.append(m.text) if "Content Security Policy" in m.text else None,
        )
        page.on(
            "request",
            lambda r: None if r.url.startswith((url, "data:")) else problems.append(r.url),
        )
        page.goto(url)
        return page

    yield open_at
    for context in contexts:
        context.close()
    assert problems == []


def picture(page: Page, name: str) -> None:
    """Keep a screenshot for the documentation, when asked to."""
    if os.environ.get("METIS_SCREENSHOTS"):
        IMAGES.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=IMAGES / f"{name}.png")


def upload(page: Page, *names: str) -> None:
    """Upload files of tests/data through the page's button and wait until they are ready."""
    page.get_by_role("tab", name=re.compile("Documents")).click()
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Choose files").click()
    chooser.value.set_files([DATA / name for name in names])
    for name in names:
        row = page.locator("#document-list li", has_text=name)
        expect(row).to_contain_text("passage")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_upload_ask_and_look_at_the_sources(
    running: Any, scripted_ollama: Any, open_page: Callable[..., Page], scheme: str
) -> None:
    scripted_ollama.answer = ANSWER
    page = open_page(running.url, color_scheme=scheme)
    expect(page.locator("#health")).to_have_text("ready")
    expect(page.get_by_role("dialog")).to_be_hidden()  # a single user needs no key
    upload(page, "leave-policy.md", "field-safety-manual.pdf", "travel-policy.html")

    box = page.get_by_label("Your question")
    box.fill("How many weeks of parental leave does each parent have?")
    box.press("Enter")
    answer = page.locator(".from-metis")
    expect(answer.locator("strong")).to_have_text("22 weeks")
    expect(answer.locator("li")).to_have_count(2)

    first = answer.locator("details.source").first
    expect(first).to_contain_text("leave-policy.md")
    expect(first.locator(".place")).to_have_text("Leave Policy › Parental leave")
    expect(first).to_have_class(re.compile("cited"))
    expect(first.locator("blockquote")).to_be_hidden()
    answer.get_by_role("button", name="Show source 1").first.click()
    expect(first.locator("blockquote")).to_contain_text("22 weeks of parental leave")
    picture(page, f"page-{scheme}")

    page.get_by_role("tab", name="Chats").click()
    page.get_by_role("button", name="New chat").click()
    expect(answer).to_have_count(0)
    page.locator("#conversations .open").first.click()
    expect(page.locator(".from-user")).to_contain_text("parental leave")
    expect(page.locator(".from-metis details.source").first).to_have_class(re.compile("cited"))


def test_the_answer_streams_and_can_be_stopped(
    serve: Serve,
    app_settings: Callable[..., Any],
    holding_ollama: Any,
    open_page: Callable[..., Page],
) -> None:
    with serve(app_settings(ollama_base_url=holding_ollama.url)) as running:
        page = open_page(running.url)
        page.get_by_label("Your question").fill("Go on and on")
        page.get_by_role("button", name="Ask").click()
        expect(page.locator(".answer")).to_have_text("One two three")
        page.get_by_role("button", name="Stop").click()
        expect(page.locator(".trouble")).to_have_text("Stopped.")
        assert holding_ollama.left.wait(10), "the model must not go on for nobody"
        page.reload()
        page.locator("#conversations .open").click()
        expect(page.locator(".answer")).to_have_text("One two three")
        expect(page.get_by_role("button", name="Ask")).to_be_visible()


def test_dropped_files_are_told_apart_by_their_result(
    running: Any, open_page: Callable[..., Page]
) -> None:
    page = open_page(running.url)
    page.evaluate(
        """() => {
          const files = new DataTransfer();
          files.items.add(new File(["# Tea\\n\\nTea is at four."], "tea.md"));
          files.items.add(new File(["MZ"], "setup.exe"));
          for (const kind of ["dragenter", "drop"])
            window.dispatchEvent(new DragEvent(kind, { dataTransfer: files, cancelable: true }));
        }"""
    )
    expect(page.locator("#document-list li", has_text="tea.md")).to_contain_text("1 passage")
    bad = page.locator("#document-list li", has_text="setup.exe")
    expect(bad.locator(".bad")).to_contain_text("not of a kind that can be read")
    expect(page.locator("#uploads li")).to_have_count(0)

    row = page.locator("#document-list li", has_text="tea.md")
    row.hover()
    row.get_by_role("button", name="Delete tea.md").click()
    row.get_by_role("button", name="press again to confirm").click()
    expect(row).to_have_count(0)


def test_asks_for_the_key_once(with_keys: Any, open_page: Callable[..., Page]) -> None:
    page = open_page(with_keys.url)
    dialog = page.get_by_role("dialog")
    expect(dialog).to_be_visible()
    dialog.get_by_label("Key").fill("wrong")
    dialog.get_by_label("Key").press("Enter")
    expect(dialog.get_by_role("alert")).to_contain_text("not known here")
    dialog.get_by_label("Key").fill("ann-key")
    dialog.get_by_role("button", name="Sign in").click()
    expect(page.locator("#who")).to_have_text("ann")
    page.get_by_role("tab", name="Memory").click()
    expect(page.locator("#memory-note")).to_contain_text("switched off")
    expect(page.locator("#memory-state")).to_be_hidden()  # that is for admins
    page.reload()
    expect(page.locator("#who")).to_have_text("ann")
    expect(dialog).to_be_hidden()
    page.get_by_role("button", name="Sign out").click()
    expect(dialog).to_be_visible()


def test_tells_what_is_wrong(
    running: Any, scripted_ollama: Any, open_page: Callable[..., Page]
) -> None:
    scripted_ollama.down = True
    page = open_page(running.url)
    expect(page.locator("#banner")).to_contain_text("model server does not answer")
    page.get_by_label("Your question").fill("Anybody there?")
    page.get_by_role("button", name="Ask").click()
    expect(page.locator(".trouble")).to_contain_text("Ollama")
    expect(page.get_by_role("button", name="Ask")).to_be_visible()


def test_narrow_screen(running: Any, scripted_ollama: Any, open_page: Callable[..., Page]) -> None:
    scripted_ollama.answer = ANSWER
    page = open_page(running.url, viewport=NARROW, has_touch=True, color_scheme="dark")
    side = page.locator("#side")
    expect(side).not_to_be_in_viewport()
    page.get_by_role("button", name="Show the side panel").click()
    expect(side).to_be_in_viewport()
    upload(page, "leave-policy.md")
    picture(page, "page-narrow-documents")
    page.keyboard.press("Escape")
    expect(side).not_to_be_in_viewport()
    page.get_by_label("Your question").fill("How long is parental leave?")
    page.get_by_role("button", name="Ask").click()
    expect(page.locator(".answer")).to_contain_text("22 weeks")
    picture(page, "page-narrow")
    width = page.evaluate("document.documentElement.scrollWidth")
    assert width <= NARROW["width"], "nothing may stick out sideways"


def test_what_it_remembers(
    remembering: Any, scripted_ollama: Any, open_page: Callable[..., Page]
) -> None:
    scripted_ollama.models.append("other-model")
    with remembering.client("cid-key") as client:
        files = [("files", ("leave-policy.md", (DATA / "leave-policy.md").read_bytes()))]
        client.post("/api/documents", files=files)
    page = open_page(remembering.url)
    page.get_by_role("dialog").get_by_label("Key").fill("cid-key")
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_be_hidden()
    page.get_by_role("tab", name="Memory").click()
    page.get_by_label("Style").fill("short")
    page.get_by_label("Model").select_option("other-model:latest")
    page.get_by_role("button", name="Save").click()
    expect(page.locator("#preferences-result")).to_contain_text("Saved")
    page.get_by_label("Your question").fill("How many days of annual leave do I have?")
    page.keyboard.press("Enter")
    expect(page.locator(".answer")).to_contain_text("The answer is in the document")
    expect(page.locator("#history li").first).to_contain_text("annual leave")
    expect(page.locator("#interactions li")).to_have_text("leave-policy.md")
    picture(page, "page-memory")
    assert scripted_ollama.requests[-1]["model"] == "other-model:latest"
    page.reload()
    page.get_by_role("tab", name="Memory").click()
    expect(page.get_by_label("Style")).to_have_value("short")
    expect(page.get_by_label("Model")).to_have_value("other-model:latest")
    page.get_by_label("Style").fill("x")
    page.get_by_label("Model").select_option("")
    scripted_ollama.models.remove("other-model")
    page.get_by_role("button", name="Save").click()
    expect(page.locator("#preferences-result")).to_contain_text("Saved")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_memory_away_is_said_and_seen_by_keyboard_alone(
    serve: Serve,
    app_settings: Callable[..., Any],
    free_port: Callable[[], int],
    mem0_key: str,
    open_page: Callable[..., Page],
    scheme: str,
) -> None:
    settings = app_settings(
        use_mem0=True, mem0_endpoint=f"http://127.0.0.1:{free_port()}", mem0_api_key=mem0_key
    )
    with serve(settings) as running:
        page = open_page(running.url, color_scheme=scheme)
        expect(page.get_by_label("Your question")).to_be_focused()
        page.keyboard.type("My tea is green.\n")
        expect(page.locator(".answer")).to_contain_text("The answer")
        page.get_by_role("tab", name="Chats").focus()
        page.keyboard.press("ArrowLeft")
        note = page.locator("#memory-note")
        expect(note).to_contain_text("does not answer now")
        expect(note).to_contain_text("2 notes of yours wait to be remembered")
        expect(page.locator("#history li")).to_have_text("My tea is green.")
        page.locator("#memory-state summary").focus()
        page.keyboard.press("Enter")
        expect(page.locator("#backlog")).to_contain_text("2 notes of all users")
        expect(page.locator("#caches tr")).to_have_count(4)
        clear = page.get_by_role("button", name="Clear the cache recall on every replica")
        clear.focus()
        page.keyboard.press("Enter")
        expect(clear).to_be_focused()
        forget = page.locator("#forget")
        forget.focus()
        page.keyboard.press("Enter")
        expect(forget).to_have_text("Press again to forget")
        page.keyboard.press("Enter")
        expect(page.locator("#history li")).to_have_text("Nothing yet.")
        expect(forget).to_have_text("Forget all of this")
        expect(note).to_contain_text("1 note of yours waits")


def test_memory_off_is_said(running: Any, open_page: Callable[..., Page]) -> None:
    page = open_page(running.url)
    page.get_by_role("tab", name="Memory").click()
    expect(page.locator("#memory-note")).to_contain_text("switched off")
    expect(page.get_by_role("button", name="Save")).to_be_disabled()


def test_keyboard_alone(running: Any, open_page: Callable[..., Page], scripted_ollama: Any) -> None:
    page = open_page(running.url)
    expect(page.get_by_label("Your question")).to_be_focused()
    page.keyboard.type("Two\n")
    expect(page.locator(".from-user")).to_have_text("Two")
    expect(page.locator(".answer")).to_contain_text("The answer")
    page.get_by_role("tab", name="Chats").focus()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("tab", name=re.compile("Documents"))).to_be_focused()
    expect(page.locator("#documents")).to_be_visible()

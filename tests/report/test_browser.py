"""The page in a real browser: headings are there, and a phone does not scroll sideways."""

import html
import re
import shutil
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.browser
PHONE = 390  # CSS pixels

# Chromium's window is never narrower than 500 pixels, so the phone is a frame inside a page of its own.
FRAME = """<body style="margin:0"><iframe id="phone" width="{width}" height="900" style="border:0" srcdoc="{page}">
</iframe><p id="out"></p><script>
const phone = document.getElementById("phone");
phone.addEventListener("load", () => {{
  const root = phone.contentDocument.documentElement;
  document.getElementById("out").textContent = `client ${{root.clientWidth}} scroll ${{root.scrollWidth}}`;
}});
</script></body>"""


@pytest.fixture(scope="module")
def chromium(tmp_path_factory) -> list[str]:
    """The command of a headless browser that talks to no server."""
    names = ("chromium", "chromium-browser", "google-chrome")
    program = next((path for name in names if (path := shutil.which(name))), None)
    if program is None:
        pytest.skip("no Chromium on this machine: apt-get install chromium")
    profile = tmp_path_factory.mktemp("profile")
    quiet = ["--disable-gpu", "--disable-background-networking", "--disable-sync", "--no-first-run"]
    return [program, "--headless", "--no-sandbox", *quiet, f"--user-data-dir={profile}"]


def dom(chromium: list[str], page: Path) -> str:
    command = [*chromium, "--dump-dom", page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


def test_headings_are_in_the_dom(chromium, report):
    found = dom(chromium, report / "index.html")
    for title in ("1. Summary", "3. Learning-rate transfer", "5. Claims ledger", "6. How to reproduce this page"):
        assert f"<h2>{title}</h2>" in found


def test_a_phone_does_not_scroll_sideways(chromium, report, tmp_path):
    page = html.escape((report / "index.html").read_text(encoding="utf-8"), quote=True)
    frame = tmp_path / "frame.html"
    frame.write_text(FRAME.format(width=PHONE, page=page), encoding="utf-8")
    sizes = re.findall(r"client (\d+) scroll (\d+)", dom(chromium, frame))
    assert len(sizes) == 1, "the frame did not load"
    client, scroll = map(int, sizes[0])
    assert PHONE - 20 <= client <= PHONE and scroll <= client


def test_a_screenshot_is_not_blank(chromium, report, tmp_path):
    shot = tmp_path / "page.png"
    page = (report / "index.html").as_uri()
    command = [*chromium, f"--screenshot={shot}", "--window-size=1280,1600", page]
    subprocess.run(command, capture_output=True, check=True, timeout=60)
    assert shot.stat().st_size > 50_000

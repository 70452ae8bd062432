"""How fast the viewer scrolls through a scan, and when its first picture is there, drawn with the CPU only.

python benchmarks/viewing.py
"""

import platform
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from review_page_viewer import CHROMIUM_ARGUMENTS, build, served

SHAPE = (512, 512, 300)
SLICES = 120


def main() -> None:
    print(f"{platform.processor() or platform.machine()}, Chromium without a graphics card, {SHAPE} voxels, 1440 x 900")
    with tempfile.TemporaryDirectory() as folder:
        build(Path(folder))
        with served(Path(folder)) as address, sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=list(CHROMIUM_ARGUMENTS))
            page = browser.new_page(viewport={"width": 1440, "height": 900})
            page.goto(address)
            page.wait_for_timeout(500)
            page.evaluate("shape => harness.openLarge(shape)", list(SHAPE))
            print(f"first picture after {page.evaluate('harness.firstPictureMs'):.0f} ms (slabs are in memory)")
            for layout in ("axial", "four"):
                page.evaluate("layout => harness.view.setLayout(layout)", layout)
                for contour in ("false", "true"):
                    page.evaluate(f"harness.view.setStyle({{ contour: {contour} }})")
                    rate = page.evaluate("slices => harness.scroll('axial', slices)", SLICES)
                    shown = "outlines" if contour == "true" else "filled labels"
                    print(f"{layout:>8}, {shown}: {rate:.1f} slices a second")
            browser.close()


if __name__ == "__main__":
    main()

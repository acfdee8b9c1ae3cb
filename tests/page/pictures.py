"""`python -m tests.page.pictures`: the documents' pictures, from the screenshots of the tests."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parent.parent.parent
SHOTS, IMAGES = ROOT / "build" / "screenshots", ROOT / "docs" / "images"
COLOURS = 96
# A picture of the documents to the screenshot that it is made from.
PICTURES = {
    "page-start": "start",
    "page-uploading": "uploading",
    "page-processing": "processing",
    "page-playing": "playing",
    "page-english-dark": "english",
    "page-phone": "phone-dark-job",
}


def main() -> None:
    for picture, shot in PICTURES.items():
        image = Image.open(SHOTS / f"{shot}.png").convert("RGB")
        path = IMAGES / f"{picture}.png"
        image.quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)
        print(f"{path.name}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()

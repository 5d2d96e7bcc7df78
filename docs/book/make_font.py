"""Make tutorials/fonts/NotoSansCJKsc-subset.otf: it writes Chinese characters into the tutorials' pictures.

    pip install fonttools
    python docs/book/make_font.py

It reads Noto Sans CJK SC from Debian's package fonts-noto-cjk, and keeps ASCII and every character that
the novel has often enough to be in the vocabulary of tutorial 01.
"""

import sys
from collections import Counter
from pathlib import Path

from fontTools import subset
from fontTools.ttLib import TTCollection

ROOT = Path(__file__).resolve().parents[2]
SOURCE = Path("/usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc")
FONT = ROOT / "tutorials/fonts/NotoSansCJKsc-subset.otf"
FAMILY = "Noto Sans CJK SC"
AT_LEAST = 25
LARGEST = 350_000  # bytes


def main() -> None:
    """Write the font, and say how large it is."""
    counts = Counter((ROOT / "minizha/data/sanguo.txt").read_text(encoding="utf-8"))
    characters = {c for c, count in counts.items() if count >= AT_LEAST and c > "~"}
    characters |= set("狗咬人") | {chr(c) for c in range(32, 127)}
    fonts = TTCollection(SOURCE).fonts
    (font,) = (f for f in fonts if f["name"].getDebugName(4) == FAMILY)
    options = subset.Options(
        hinting=False, layout_features=[], name_IDs=[0, 1, 2, 4, 6, 13, 14], notdef_outline=True
    )
    options.drop_tables += ["VORG", "vhea", "vmtx", "BASE", "GSUB", "GPOS"]
    subsetter = subset.Subsetter(options)
    subsetter.populate(unicodes=map(ord, characters))
    subsetter.subset(font)
    font["head"].modified = font["head"].created  # the same bytes each time
    font.recalcTimestamp = False
    FONT.parent.mkdir(exist_ok=True)
    font.save(FONT)
    size = FONT.stat().st_size
    print(f"{FONT.relative_to(ROOT)}: {len(characters)} characters, {size:,} bytes")
    if size > LARGEST:
        sys.exit(f"expected at most {LARGEST:,}")


if __name__ == "__main__":
    main()

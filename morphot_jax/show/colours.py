"""The colours of everything that is looked at, whichever program shows it."""

BLUE, GREY = "#6aa0d8", "#b0b0b0"  # of a surface, and of one that it is compared with
INK, MARK = "#1d3b57", "#D55E00"  # of lines and words, and of what is to be seen first
PALETTE = {0.0: "#3b4cc0", 0.5: "#dddddd", 1.0: "#b40426"}  # of lengths, from none to the longest


def rgb(colour: str) -> tuple[float, float, float]:
    """Red, green, blue from 0 to 1."""
    red, green, blue = (int(colour[place : place + 2], 16) / 255.0 for place in (1, 3, 5))
    return red, green, blue


def packed(colour: str) -> int:
    """As one number, 0xRRGGBB."""
    return int(colour[1:], 16)

"""The colours of all pictures, whichever program draws them."""

BLUE, GREY = "#6aa0d8", "#b0b0b0"  # a surface, and the surface to compare it with
INK, MARK = "#1d3b57", "#D55E00"  # lines and text, and what should catch the eye
FADES, APPEARS, CARRIED = "#b35806", "#1b7837", "#dddddd"  # mass that goes, mass that comes, and the rest
PARTS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#bb5566", "#004488")  # after Tol, 2021
PALETTE = {0.0: "#3b4cc0", 0.5: "#dddddd", 1.0: "#b40426"}  # displacements, from zero to the longest
DOUBT_PALETTE = {
    0.0: "#aab4c2",
    0.5: "#f0a030",
    1.0: "#a50f26",
}  # doubt of a motion, from zero to the most

FADING_PALETTE = {0.0: FADES, 0.5: CARRIED, 1.0: APPEARS}


def rgb(colour: str) -> tuple[float, float, float]:
    """Red, green, blue from 0 to 1."""
    red, green, blue = (int(colour[place : place + 2], 16) / 255.0 for place in (1, 3, 5))
    return red, green, blue


def packed(colour: str) -> int:
    """The colour as one number, 0xRRGGBB."""
    return int(colour[1:], 16)

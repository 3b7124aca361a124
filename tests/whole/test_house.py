"""The picture of the house on the page for contributors: it shows the code as it is."""

import runpy

from helpers import ROOT


def test_the_picture_of_the_house_is_of_the_code_as_it_is():
    house = runpy.run_path(str(ROOT / "docs" / "house.py"))
    assert house["PICTURE"].read_text(encoding="utf-8") == house["drawing"](), "renew it: python docs/house.py"


def test_the_picture_counts_imports_between_rooms(tmp_path):
    """Of a package of two rooms: in a function too, a file once, and none within a room."""
    for path, text in {
        "up/__init__.py": "",
        "up/one.py": "from morphot_jax.down import a\nfrom morphot_jax.up.two import x\n",
        "up/two.py": "def late():\n    import morphot_jax.down.a\n    from morphot_jax.down.b import f, g\n",
        "down/__init__.py": "",
        "down/a.py": "import numpy\n",
        "down/b.py": "from morphot_jax import __version__\n",
    }.items():
        file = tmp_path / "morphot_jax" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    house = runpy.run_path(str(ROOT / "docs" / "house.py"))
    house["drawing"].__globals__["PACKAGE"] = tmp_path / "morphot_jax"
    assert house["imports_between"]({"up", "down"}) == {("up", "down"): 3}
    picture = house["drawing"]()
    assert picture.index(">up<") < picture.index(">down<")  # the room above is drawn first, from the top
    assert picture.count("2 files") == 2

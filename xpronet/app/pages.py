"""The pages of this room, which look alike."""

from importlib.resources import files


def template(name: str) -> str:
    """The text of a page, with the style that all have in the place of @LOOK@."""
    app = files("xpronet.app")
    look = app.joinpath("look.css").read_text(encoding="utf-8")
    return app.joinpath(name).read_text(encoding="utf-8").replace("@LOOK@", look)

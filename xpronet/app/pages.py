"""What the pages of this room have in common: their look, their guard, and what each answer says once."""

import base64
import hashlib
import re
from importlib.resources import files

NOTICE = "Research software and no medical device: not to be used for diagnosis or treatment."


def template(name: str) -> str:
    """The text of a page, with the style that all have in the place of @LOOK@."""
    app = files("xpronet.app")
    look = app.joinpath("look.css").read_text(encoding="utf-8")
    return app.joinpath(name).read_text(encoding="utf-8").replace("@LOOK@", look)


def guarded(name: str) -> tuple[bytes, str]:
    """The page, and the policy that lets it run its own script and style, ask its own server, and nothing else."""
    text = template(name)

    def digests(tag: str) -> str:
        parts = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.S)
        return " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(p.encode()).digest()).decode()}'" for p in parts)

    policy = (
        f"default-src 'none'; script-src {digests('script')}; style-src {digests('style')}; img-src data: blob:;"
        " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return text.encode(), policy

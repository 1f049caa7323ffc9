r"""Lets BibTeX names such as `J{\'e}gou` be read.

pybtex decodes them with the codec "ulatex", which latexcodec registers. `future_typing`, which
comes along with the package of plays, registers at start-up a search that claims every codec it is
asked for, this one too. Taking its search away again affects nothing that the book uses.
"""

import codecs
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx


def release_codec_names() -> None:
    """Unregister the codec search of `future_typing`, as often as it was registered."""
    while (claim := _claim("a codec that does not exist")) is not None:
        if claim.name != "future_typing":
            raise LookupError(f"expected no codec of that name, received {claim.name!r}")
        from future_typing import codec

        codecs.unregister(codec.search_function)


def _claim(name: str) -> codecs.CodecInfo | None:
    try:
        return codecs.lookup(name)
    except LookupError:
        return None


def setup(app: "Sphinx") -> dict[str, bool]:
    """Give the names back before any bibliography is read."""
    release_codec_names()
    return {"parallel_read_safe": True, "parallel_write_safe": True}

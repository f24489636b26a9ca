"""The pieces of HTML that every section of the report is made of."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from html import escape

from pipeline.report_style import Drawing


def paragraphs(sentences: Iterable[str]) -> str:
    """Write paragraphs.

    Args:
        sentences: Plain text of each; empty ones are left out.

    Returns:
        HTML.
    """
    return "".join(f"<p>{escape(text)}</p>" for text in sentences if text)


def listed(sentences: Iterable[str]) -> str:
    """Write a list.

    Args:
        sentences: Plain text of each entry; empty ones are left out.

    Returns:
        HTML; empty when there is no entry.
    """
    entries = "".join(f"<li>{escape(text)}</li>" for text in sentences if text)
    return f"<ul>{entries}</ul>" if entries else ""


def figure(drawing: Drawing | None, caption: Iterable[str], *, narrow: bool = False) -> str:
    """Write a figure with its caption, or the caption alone.

    Args:
        drawing: The picture; None: there is none.
        caption: Plain text of each paragraph.
        narrow: Whether it takes three quarters of the width.

    Returns:
        HTML.
    """
    if drawing is None:
        return paragraphs(caption)
    return embedded("image/svg+xml", drawing.svg, drawing.alt, paragraphs(caption), narrow=narrow)


def embedded(kind: str, data: bytes, alt: str, caption: str, *, narrow: bool = False) -> str:
    """Write a picture into the page itself.

    Args:
        kind: Its media type.
        data: The file.
        alt: What it shows, as plain text.
        caption: HTML below it.
        narrow: Whether it takes three quarters of the width.

    Returns:
        HTML.
    """
    return (
        f'<figure><img{" class=narrow" if narrow else ""} alt="{escape(alt)}" '
        f'src="data:{kind};base64,{base64.b64encode(data).decode()}">'
        f"<figcaption>{caption}</figcaption></figure>"
    )

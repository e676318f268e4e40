"""Markup that is safe by default, and text that cannot escape the terminal.

`tag` escapes every child that is not already `Markup` and every attribute, so a route named `<script>` is a name.
Only this module makes `Markup` out of strings from elsewhere.
"""

from __future__ import annotations

import html


class Markup(str):
    """A string that is HTML or SVG already and is not escaped again."""

    __slots__ = ()


def printable(text: str) -> str:
    r"""A text for the terminal: control characters, escapes, line breaks and bidirectional marks are spelled out.

    >>> printable("a\x1b[31mb")
    'a\\x1b[31mb'
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in text)


def escape(text: str) -> Markup:
    """A text as HTML; control and bidirectional characters are spelled out, as in the terminal.

    >>> escape("<script>")
    '&lt;script&gt;'
    """
    return Markup(html.escape(printable(text), quote=True))


def join(parts: list[Markup] | tuple[Markup, ...], separator: str = "") -> Markup:
    """Several pieces as one."""
    return Markup(separator.join(parts))


def tag(name: str, *children: str, **attributes: object) -> Markup:
    """An element; `class_` is class, other underscores are hyphens, attributes that are None are left out.

    >>> tag("p", "a < b", class_="note")
    '<p class="note">a &lt; b</p>'
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    inner = "".join(child if isinstance(child, Markup) else escape(child) for child in children)
    return Markup(f"<{name}{written}>{inner}</{name}>")

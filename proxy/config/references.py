"""Whether a name that is used somewhere is defined, and what was probably meant if it is not."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from proxy.config.document import View
from proxy.config.nearest import listed, suggest


@dataclass(frozen=True, slots=True)
class Known:
    """The names of one kind; `secret` are those whose text came from a variable and is not shown."""

    noun: str
    names: Collection[str]
    secret: Collection[str] = ()

    def check(self, view: View) -> bool:
        """Whether the text at `view` is a known name; notes an error if not."""
        name = view.text
        if name is None or name in self.names:
            return name is not None
        shown = list(dict.fromkeys(known for known in self.names if known not in self.secret))
        hint = suggest(name, shown) or (f", must be {listed(shown)}" if shown else "")
        view.report(f"unknown {self.noun} {view.shown}{hint if self.names else f', no {self.noun} is defined'}")
        return False

    def check_all(self, view: View) -> list[str]:
        """The known names of a list, each once; notes unknown and repeated ones."""
        seen: dict[str, View] = {}
        for item in view.items():
            if item.text in seen:
                item.report(f"got {item.shown}, already given as {seen[item.text].where}, remove one")
            elif item.text is not None and self.check(item):
                seen[item.text] = item
        return list(seen)


def section(root: View, key: str, noun: str) -> Known:
    """The names that a section of the file defines, whether or not their definitions are right."""
    return Known(noun, [name for name, _ in root[key].entries()])


def routes_of(root: View) -> list[View]:
    """The routes, if there is a list of them."""
    return root["routes"].items() if isinstance(root["routes"].value, list) else []


def route_names(root: View) -> Known:
    """The names of the routes."""
    names = [route["name"] for route in routes_of(root)]
    return Known(
        "route",
        [name.text for name in names if name.text is not None],
        {name.text for name in names if name.text is not None and name.path in name.document.sources},
    )


def check_header_case(view: View) -> None:
    """Header names are the same in any case, so one name may not be given twice."""
    seen: dict[str, str] = {}
    for name, header in view.entries():
        if name.lower() in seen:
            header.report(f"the same header as {seen[name.lower()]}, remove one")
        seen.setdefault(name.lower(), name)

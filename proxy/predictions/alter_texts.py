"""Texts that are cut, said again or garbled. Characters are code points, so the result is UTF-8 as the text was."""

from __future__ import annotations

import re
from math import floor, log, log1p
from typing import Final

from proxy.predictions.draws import Draws
from proxy.predictions.rules import TextRepeat, TextTruncate

_WORD: Final = re.compile(r"\S+")
_LETTERS: Final = "abcdefghijklmnopqrstuvwxyz"


def truncated(text: str, rule: TextTruncate) -> str:
    """Cut a text; it stays as it is where it is short enough. A token is a word here: nobody's tokenizer is known."""
    if rule.chars is not None:
        return text[: rule.chars]
    if rule.tokens is not None:
        end = 0
        for count, word in enumerate(_WORD.finditer(text)):
            if count == rule.tokens:
                break
            end = word.end()
        else:
            return text
        return text[:end]
    return text[: floor(len(text) * (rule.fraction or 0.0))]


def repeated(text: str, rule: TextRepeat, draws: Draws) -> str:
    """Say a text again, as models do that have lost the thread; with a blank between where it is no line."""
    if draws.uniform() >= rule.probability:
        return text
    between = "" if not text or text[-1].isspace() else " "
    return between.join([text] * (1 + rule.times))


def garbled(text: str, probability: float, draws: Draws) -> str:
    """Replace characters by other letters, each with `probability`.

    What is drawn is how many are spared until the next (geometric), because a draw per character of 64 KiB would
    hold up everybody else for 40 ms.
    """
    changed = list(text)
    spared = log1p(-probability) if probability < 1 else None
    at = -1
    while True:
        at += 1 if spared is None else 1 + floor(log(1.0 - draws.uniform()) / spared)
        if at >= len(changed):
            return "".join(changed)
        letter = draws.below(len(_LETTERS))
        changed[at] = _LETTERS[letter] if _LETTERS[letter] != changed[at] else _LETTERS[letter - 1]

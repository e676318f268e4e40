"""Which protocol a path speaks, by the path alone.

Headers and bodies are not asked: the answer decides whether a request may be shadowed and retried,
so it must be known before the body, cost nothing, and be the same for both legs of a pair.
A prefix such as `/serving` is allowed, because gateways add them.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

# KServe V1 and TensorFlow Serving share their paths; some clients escape the colon. TorchServe's
# version must look like one: `/predictions/17/approve` is somebody's REST resource.
_PATTERN: Final = re.compile(
    r"""
    (?P<v1>/v1/models/[^/]+(?:/(?:versions|labels)/[^/]+?)?(?<!/)(?::|%3[Aa])(?:predict|classify|regress))\Z
  | (?P<v2>/v2/models/[^/]+(?:/versions/[^/]+)?/infer)\Z
  | (?P<invocations>/invocations)\Z
  | (?P<openai>/v1/(?:chat/completions|completions|embeddings))\Z
  | (?P<torchserve>/predictions/[^/]+(?:/\d+(?:\.\d+)*)?)\Z
  | (?P<free>/predict)\Z
    """,
    re.VERBOSE,
)
# Longer paths are matched each time, so that the cache is bounded in bytes too (1 MB).
_LONGEST_CACHED: Final = 256


def recognise(path: str) -> str | None:
    """Name the protocol whose predict call `path` is: v1, v2, invocations, torchserve, openai, free, or None.

    "v1" is KServe V1 and TensorFlow Serving (predict, classify, regress). A query string is ignored.
    """
    return _cached(path) if len(path) <= _LONGEST_CACHED else _search(path)


def is_predict_path(path: str) -> bool:
    """Tell whether a POST to `path` is a prediction: safe to repeat, and safe to shadow by default."""
    return recognise(path) is not None


def _search(path: str) -> str | None:
    found = _PATTERN.search(path.partition("?")[0])
    return found.lastgroup if found else None


_cached = lru_cache(maxsize=4096)(_search)

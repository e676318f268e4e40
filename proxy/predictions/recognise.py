"""Which protocol a path speaks, by the path alone.

Headers and bodies are not asked: the answer decides whether a request may be shadowed and retried,
so it must be known before the body, cost nothing, and be the same for both legs of a pair.
A prefix such as `/serving` is allowed, because gateways add them.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

# KServe V1 and TensorFlow Serving share their paths; some clients escape the colon. Azure names the deployment where
# others have `v1`. TorchServe's
# version must look like one: `/predictions/17/approve` is somebody's REST resource.
_PATTERN: Final = re.compile(
    r"""
    (?P<v1>/v1/models/[^/]+(?:/(?:versions|labels)/[^/]+?)?(?<!/)(?::|%3[Aa])(?:predict|classify|regress))\Z
  | (?P<v2>/v2/models/[^/]+(?:/versions/[^/]+)?/infer)\Z
  | (?P<v2_stream>/v2/models/[^/]+(?:/versions/[^/]+)?/infer_stream)\Z
  | (?P<generate>/v2/models/[^/]+(?:/versions/[^/]+)?/generate(?:_stream)?)\Z
  | (?P<invocations>/invocations)\Z
  | (?P<openai_chat>/(?:v1|deployments/[^/]+)/chat/completions)\Z
  | (?P<openai_completions>/(?:v1|deployments/[^/]+)/completions)\Z
  | (?P<openai_embeddings>/(?:v1|deployments/[^/]+)/embeddings)\Z
  | (?P<openai_responses>/v1/responses)\Z
  | (?P<torchserve>/predictions/[^/]+(?:/\d+(?:\.\d+)*)?)\Z
  | (?P<free>/predict)\Z
    """,
    re.VERBOSE,
)
# A response is kept by its server and may call tools there, so a second one would leave a trace.
_LASTING: Final = frozenset({"openai_responses"})
# Longer paths are matched each time, so that the cache is bounded in bytes too (1 MB).
_LONGEST_CACHED: Final = 256


def recognise(path: str) -> str | None:
    """Name the protocol whose predict call `path` is, or None.

    "v1" (KServe V1 and TensorFlow Serving: predict, classify, regress), "v2", "v2_stream", "generate", "invocations",
    "torchserve", "openai_chat", "openai_completions", "openai_embeddings", "openai_responses" or "free". A query
    string is ignored.
    """
    return _cached(path) if len(path) <= _LONGEST_CACHED else _search(path)


def is_predict_path(path: str) -> bool:
    """Tell whether a POST to `path` is a prediction: safe to repeat, and safe to shadow by default."""
    protocol = recognise(path)
    return protocol is not None and protocol not in _LASTING


def _search(path: str) -> str | None:
    found = _PATTERN.search(path.partition("?")[0])
    return found.lastgroup if found else None


_cached = lru_cache(maxsize=4096)(_search)

"""What all tests share: how thoroughly property tests look. `make check` takes the quick profile."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("quick", max_examples=20, deadline=None)
settings.register_profile("thorough", max_examples=100, deadline=None)
settings.register_profile("fuzz", max_examples=2000, deadline=None, print_blob=True)
settings.load_profile("thorough")

"""Who may do what: API keys, their scopes, and how often each may ask."""

from service.security.access import Access
from service.security.require import require_scope

__all__ = ["Access", "require_scope"]

"""Who may do what: API keys, their scopes, and how often each may ask."""

from service.security.access import Access
from service.security.require import guarded_route

__all__ = ["Access", "guarded_route"]

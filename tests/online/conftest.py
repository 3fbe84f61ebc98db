"""Online stores for the tests: SQLite, and PostgreSQL and Redis where their servers are installed."""

from support.online_servers import online, postgres_place, redis_place

__all__ = ["online", "postgres_place", "redis_place"]

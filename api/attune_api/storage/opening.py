"""Which database a URL is of."""

from sqlalchemy.engine import make_url

from attune_api.storage.database import Database, SqliteDatabase


def open_database(database_url: str) -> Database:
    """The database of a URL of :class:`attune_api.settings.Settings`. Connects on first use.

    Raises:
        ValueError: the URL cannot be read.
    """
    if database_url.startswith("sqlite"):
        return SqliteDatabase(make_url(database_url))
    from attune_api.storage.postgres import PostgresDatabase  # asyncpg, which SQLite does without

    return PostgresDatabase(database_url)

"""What the stored events prove about sensors and rules: the sensor that reported a rule's last event served it then."""

from collections.abc import Sequence

from attune_api.events.last.sql import reported_rules
from attune_api.rules.bindings import Binding
from attune_api.storage.database import Database


class StoredEventObserver:
    """Asks the database. See :data:`attune_api.rules.check.EventObserver`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def __call__(self, sensor_ref: str, rule_uids: Sequence[str]) -> dict[str, Binding]:
        """The bindings that are proved.

        Raises:
            sqlalchemy.exc.SQLAlchemyError, OSError, TimeoutError: the database does not answer.
        """
        found = await self._database.read(
            lambda connection: reported_rules(connection, sensor_ref=sensor_ref, rule_uids=rule_uids)
        )
        return {uid: Binding(namespace, name) for uid, (namespace, name) in found.items()}

"""Schemas that were compiled lately, so that each document does not compile its own again; bounded in memory."""

from collections import OrderedDict
from typing import Final

from attune_contract.schemas.json_schema import JsonSchema
from attune_contract.schemas.structure import UnusableSchemaError

#: Bytes (of text: characters) of JSON of all schemas that are kept. Compiled, a schema takes up to thirty times as much.
MOST_BYTES: Final = 4 * 1024 * 1024


class CompiledSchemas:
    """Compiled schemas by their text. Those that were not asked for the longest go first.

    Args:
        most_bytes: of JSON, of all that are kept. The last one is kept in any case.
    """

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most_bytes = most_bytes
        self._bytes = 0
        self._kept: OrderedDict[str | bytes, JsonSchema | UnusableSchemaError] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def __contains__(self, text: str | bytes) -> bool:
        return text in self._kept

    def get(self, text: str | bytes) -> JsonSchema | UnusableSchemaError:
        """The schema, ready to check documents; or why it cannot be used, which is remembered as well."""
        found = self._kept.get(text)
        if found is not None:
            self._kept.move_to_end(text)
            return found
        try:
            found = JsonSchema(text.encode() if isinstance(text, str) else text)
        except UnusableSchemaError as error:
            # Without what it came from: a traceback would keep the decoded schema.
            found = UnusableSchemaError(str(error))
        self._kept[text] = found
        self._bytes += len(text)
        while self._bytes > self._most_bytes and len(self._kept) > 1:
            dropped, _ = self._kept.popitem(last=False)
            self._bytes -= len(dropped)
        return found

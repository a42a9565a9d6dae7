"""Which Rules have to be looked at again: a set, so that a Rule that changed ten times is looked at once."""

import asyncio
from collections import OrderedDict
from collections.abc import Iterable


class DirtySet:
    """Uids in two classes. What a person is waiting for (``urgent``) goes before what comes in bulk, after which nobody
    looks at once; in each class the oldest goes first.
    """

    def __init__(self) -> None:
        # OrderedDict and not dict: taking a dict's first key again and again takes longer each time.
        self._urgent: OrderedDict[str, None] = OrderedDict()
        self._bulk: OrderedDict[str, None] = OrderedDict()
        self._filled = asyncio.Event()

    def __len__(self) -> int:
        return len(self._urgent) + len(self._bulk)

    def add(self, uid: str, *, urgent: bool = False) -> None:
        """Mark one Rule."""
        if urgent:
            self._bulk.pop(uid, None)
            self._urgent[uid] = None
        elif uid not in self._urgent:
            self._bulk[uid] = None
        self._filled.set()

    def update(self, uids: Iterable[str], *, urgent: bool = False) -> None:
        """Mark several."""
        for uid in uids:
            self.add(uid, urgent=urgent)

    async def wait(self) -> None:
        """Return when there is something."""
        await self._filled.wait()

    def pop(self) -> tuple[str, bool] | None:
        """Take the next, and whether it is urgent; None when there is none."""
        for uids in (self._urgent, self._bulk):
            if uids:
                uid, _ = uids.popitem(last=False)
                if not self:
                    self._filled.clear()
                return uid, uids is self._urgent
        self._filled.clear()
        return None

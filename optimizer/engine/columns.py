"""Which of a source's columns becomes which canonical one."""

from collections.abc import Collection
from dataclasses import dataclass

from optimizer.observations import Column, Kind, columns_of
from optimizer.ports.sources import Mapped


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Canonical columns in order, each with the source's column or a constant.

    A canonical column that the mapping does not mention is read under its own name; a constant
    comes before a column, and the empty constant leaves a column out.
    """

    kind: Kind
    mapped: Mapped

    @property
    def columns(self) -> tuple[Column, ...]:
        """The canonical columns of the kind."""
        return columns_of(self.kind)

    def source_of(self, name: str) -> str | None:
        """The source's column for a canonical one; None where a constant stands for it."""
        if name in self.mapped.constants:
            return None
        return self.mapped.columns.get(name, name)

    @property
    def sources(self) -> dict[str, str]:
        """Source column -> the first canonical column that reads it, in canonical order."""
        found: dict[str, str] = {}
        for column in self.columns:
            source = self.source_of(column.name)
            if source is not None:
                found.setdefault(source, column.name)
        return found

    def missing(self, present: Collection[str]) -> list[str]:
        """What is required and absent, as messages name it: ``'when' (ts)``."""
        return [
            f"{source!r} ({column.name})"
            for column in self.columns
            if column.required
            and (source := self.source_of(column.name)) is not None
            and source not in present
        ]

"""What looking after the log did."""

from __future__ import annotations

import msgspec


class Compacted(msgspec.Struct):
    """What a compaction did.

    Attributes:
        files: Parquet files that were written.
        segments: Segments that went into them.
        rows: Their rows.
        torn_bytes: What was left of messages that were cut off.
        damaged: Segments that could not be read, and were moved aside.
    """

    files: int = 0
    segments: int = 0
    rows: int = 0
    torn_bytes: int = 0
    damaged: list[str] = []


class Kept(msgspec.Struct):
    """What a run did.

    Attributes:
        is_busy: Another process of this host was at it, and nothing was done.
        compacted: Segments that became Parquet.
        shipped_files, shipped_bytes: Parquet files that were uploaded and verified.
        shipped_segments: Segments that were uploaded and verified as they are, and went here.
        taken_in: Segments of other hosts that became Parquet, and went where they were shipped to.
        tidied_files: Local files that were shipped a day ago, and went.
        expired_files, expired_bytes, expired_rows: What retention deleted, files and segments, here and where they are shipped; rows of
            local files alone.
        problems: What did not work; the rest was done all the same.
    """

    is_busy: bool = False
    compacted: Compacted = msgspec.field(default_factory=Compacted)
    shipped_files: int = 0
    shipped_bytes: int = 0
    shipped_segments: int = 0
    taken_in: int = 0
    tidied_files: int = 0
    expired_files: int = 0
    expired_bytes: int = 0
    expired_rows: int = 0
    problems: list[str] = []

    def with_taken(self, taken: Kept) -> Kept:
        """This and what was taken in after it, as one."""
        first, then = self.compacted, taken.compacted
        compacted = Compacted(
            first.files + then.files,
            first.segments + then.segments,
            first.rows + then.rows,
            first.torn_bytes + then.torn_bytes,
            [*first.damaged, *then.damaged],
        )
        return msgspec.structs.replace(
            self,
            is_busy=self.is_busy or taken.is_busy,
            compacted=compacted,
            taken_in=taken.taken_in,
            shipped_files=self.shipped_files + taken.shipped_files,
            shipped_bytes=self.shipped_bytes + taken.shipped_bytes,
            problems=[*self.problems, *taken.problems],
        )

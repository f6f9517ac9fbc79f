"""Where records end in a block of bytes.

A JSON Lines record ends at every newline. A CSV record does not end at a newline inside a quoted
field (RFC 4180, section 2, rules 5 to 7). A line with an even number of quotes leaves nothing open,
so only lines with an odd number are looked at one by one; the rest is arithmetic on arrays.

References:
    Shafranovich (2005), Common Format and MIME Type for CSV Files, RFC 4180.
"""

import re
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

_NEWLINE = ord("\n")
_QUOTE = ord('"')
_DELIMITERS = (b",", b";", b"\t", b"|")

Ends = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Boundaries:
    """Ends of the complete records, shape (n_records,), each just behind a newline.

    malformed holds the indices of records whose quotes do not pair: they would mislead a reader
    about all that follows.
    """

    ends: Ends
    malformed: frozenset[int] = frozenset()


def line_boundaries(data: bytes) -> Boundaries:
    r"""Every newline ends a record.

    Examples:
        >>> line_boundaries(b'{"a":1}\n{"a":2}\n{"a"').ends.tolist()
        [8, 16]
    """
    return Boundaries(ends=np.flatnonzero(np.frombuffer(data, np.uint8) == _NEWLINE) + 1)


def delimiter_of(header: bytes) -> bytes:
    r"""The one of comma, semicolon, tab and bar that is most often in the header.

    Examples:
        >>> delimiter_of(b"request_id;ts;note,with comma\n")
        b';'
    """
    return max(_DELIMITERS, key=header.count)


def csv_boundaries(data: bytes, delimiter: bytes) -> Boundaries:
    r"""Newlines outside quoted fields end a record.

    Examples:
        >>> csv_boundaries(b'1,"a\nb"\n2,c\n3,"d\n', b",").ends.tolist()
        [8, 12]
        >>> csv_boundaries(b'1,"a"b"\n2,c\n', b",")
        Boundaries(ends=array([ 8, 12]), malformed=frozenset({0}))
    """
    ends = line_boundaries(data).ends
    quotes = np.flatnonzero(np.frombuffer(data, np.uint8) == _QUOTE)
    odd = np.flatnonzero(np.diff(np.searchsorted(quotes, ends), prepend=0) % 2)
    if not odd.size:
        return Boundaries(ends=ends)
    whole, open_tail = _patterns(delimiter)
    keep = np.ones(len(ends), dtype=np.bool_)
    malformed: list[int] = []
    read_to = 0
    for line in odd.tolist():
        start = int(ends[line - 1]) if line else 0
        if start < read_to:
            continue
        if record := whole.match(data, start):
            read_to = record.end()
            keep[line : int(np.searchsorted(ends, read_to))] = False
        elif open_tail.match(data, start):
            keep[line:] = False
            break
        else:
            malformed.append(line)
    rank = np.cumsum(keep) - 1
    return Boundaries(ends=ends[keep], malformed=frozenset(int(rank[line]) for line in malformed))


@lru_cache
def _patterns(delimiter: bytes) -> tuple[re.Pattern[bytes], re.Pattern[bytes]]:
    """A complete record, and one that is still open where the data ends."""
    # Possessive throughout: the time stays proportional to the record's length.
    mark = re.escape(delimiter)
    inside = rb'"[^"]*+(?:""[^"]*+)*+'
    bare = rb'[^"\n' + mark + rb"][^\n" + mark + rb"]*+"
    fields = rb"(?:(?:" + inside + rb'"|' + bare + rb")?" + mark + rb")*+"
    last = rb"(?:" + inside + rb'"|' + bare + rb")?"
    whole = re.compile(fields + last + rb"\r?\n")
    open_tail = re.compile(fields + rb"(?:" + inside + rb'"?|' + bare + rb")?\r?\Z")
    return whole, open_tail

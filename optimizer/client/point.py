"""Where a unit falls in [0, 1): the one source of chance in an assignment.

The law: the same salt and unit give the same point, on every machine, in every process and release.
Slices that grow without moving their anchored end therefore never lose a unit.
"""

import math
from hashlib import blake2b

from optimizer.client.document import SEPARATOR

_BITS = 53  # what a double holds exactly, so that every language computes the same number


def point(salt: str, unit: str) -> float:
    r"""Position of a unit in [0, 1), uniform over units and independent between salts.

    The first 53 bits, most significant first, of BLAKE2b-512 over the UTF-8 bytes of salt, U+001F
    and unit, divided by 2**53. Lone surrogates are encoded as UTF-8 would encode them, since an id
    from outside may hold some.

    References:
        Saarinen and Aumasson, 2015, RFC 7693: The BLAKE2 Cryptographic Hash and Message
        Authentication Code.

    Examples:
        >>> point("d-1", "session-42") == point("d-1", "session-42")
        True
        >>> 0 <= point("d-2", "session-42") < 1
        True
    """
    digest = blake2b(f"{salt}{SEPARATOR}{unit}".encode(errors="surrogatepass")).digest()
    return math.ldexp(int.from_bytes(digest[:7], "big") >> (56 - _BITS), -_BITS)

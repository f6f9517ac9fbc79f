"""What an application imports to get its arm: sticky, local, and safe when the publisher is away.

The optimizer publishes one small file per target; the application reads it from a directory, and no
call leaves the machine. Needs the standard library alone.

    from optimizer.client import Allocations

    allocations = Allocations(
        "/srv/allocations",
        baselines={"support-bot/answer": {"arm": "gpt-4o", "model": "gpt-4o", "temperature": 0.7}},
        cache_directory="/var/cache/support-bot/allocations",
    )

    choice = allocations.choose("support-bot/answer", unit=session_id)
    reply = llm.complete(prompt, **choice.config)
    request_log.write({**choice.log_fields(), "latency_ms": latency_ms, "cost_usd": cost_usd})

Make one `Allocations` per process and share it between threads. The unit is whatever must keep its
arm: the session, else the user, else the request; give an id of its own to each, since equal units
share one arm. Log the fields of the choice with every call, also when another model served it in
the end: arms are compared by assignment.

Where a choice comes from, best first:

    current     the published file
    last_good   the file is missing, unreadable, corrupt or of an older generation than one
                already seen: the newest valid allocation goes on until it expires
    baseline    that has expired (its baseline arm, for every unit), or none was ever seen (the
                configuration given as `baselines[target]`)

A file is looked at no more often than every `check_every_s` seconds, by one thread, while the
others go on with what is in memory. A target never seen and without a baseline raises
`LookupError`. `allocations.health(target)` tells the state for a health endpoint:
`dict(allocations.health("support-bot/answer"))`.

A generation that starts anew, as after the loss of the ledger, is older than what was seen: restart
the application and empty its cache directory.

Publishers write `seal(document)` to `file_name(document["target"])` by atomic replacement, and
`parse` is what every reader does with it. The bounds of neighbouring slices are one number: write
the sum once, use it twice.
"""

from optimizer.client.allocations import Allocations
from optimizer.client.choice import Choice, Health, Origin
from optimizer.client.document import AllocationError, Document, Slice
from optimizer.client.point import point
from optimizer.client.wire import FORMAT, MAX_BYTES, checksum, file_name, parse, seal

__all__ = [
    "FORMAT",
    "MAX_BYTES",
    "AllocationError",
    "Allocations",
    "Choice",
    "Document",
    "Health",
    "Origin",
    "Slice",
    "checksum",
    "file_name",
    "parse",
    "point",
    "seal",
]

"""The parts of the hot path: from a stack of frames to the part of a completion's way that they belong to."""

from collections.abc import Mapping, Sequence

REST = "rest"
PARTS: Mapping[str, str] = {
    "receive": "Google's client: stream, messages, leases, hand-over to a thread",
    "parse": "read and check the message",
    "read": "read the records from the store: Redis' client, and decoding them",
    "decide": "decide, and check the invariants of what was read and of what is written",
    "write": "write record and history as JSON",
    "script": "send the commit scripts and read their answers: Redis' client",
    "log": "the log line",
    "metrics": "metrics",
    "acknowledge": "acknowledge: the message's own part and the client's",
    "native": "gRPC's own threads, without Python",
    REST: "everything else: the engine's and the intake's own lines, and threads that wake and wait again",
}
"""In the order of the way; `native` is counted by the kernel, the others by where the stack was."""

# The innermost frame that a rule knows decides: Redis' client belongs to whoever called it. A rule is a piece of the
# file's name (py-spy leaves out what all paths of a package share) and the beginning of a function's, `` for any.
_RULES: Sequence[tuple[str, str, str]] = (
    ("pubsub_v1/subscriber/message.py", "ack", "acknowledge"),
    ("pubsub_v1/subscriber/_protocol/dispatcher.py", "", "acknowledge"),
    ("pubsub_v1/subscriber/_protocol/streaming_pull_manager.py", "send_unary_ack", "acknowledge"),
    ("worker/adapters/pubsub_pull.py", "_delivery", "receive"),
    ("schemas/completion.py", "", "parse"),
    ("worker/intake.py", "_expectation", "parse"),
    ("schemas/record.py", "encode", "write"),
    ("worker/adapters/redis_store.py", "_call", "write"),
    ("worker/engine.py", "_history_entry", "write"),
    ("worker/adapters/redis_store.py", "load", "read"),
    ("worker/adapters/redis_client.py", "repeating", "read"),
    ("worker/adapters/redis_store.py", "commit", "script"),
    ("worker/adapters/redis_store.py", "_store", "script"),
    ("worker/adapters/redis_store.py", "_send", "script"),
    ("worker/adapters/redis_store.py", "_run", "script"),
    ("worker/adapters/redis_fields.py", "", "read"),
    ("statemachine/", "", "decide"),
    ("worker/metrics.py", "", "metrics"),
    ("worker/date_metrics.py", "", "metrics"),
    ("worker/observer.py", "decided", "log"),
    ("structlog/", "", "log"),
    ("worker/logs.py", "", "log"),
    ("worker/engine.py", "", REST),
    ("worker/intake.py", "", REST),
    ("worker/adapters/pubsub_pull.py", "_settle", REST),
)
# Where none of them is in the stack: the client's own threads, and ours while they take a message from it.
_CLIENT: Sequence[str] = ("pubsub_v1/", "api_core/", "grpc/", "proto/", "worker/adapters/pubsub_")
# It hands its notes on to others: what they do is theirs.
_PASSING = ("worker/observer.py", "Observers.")


def part_of(frames: Sequence[str]) -> str | None:
    """Give the part that a stack belongs to, None for none.

    Args:
        frames: `FUNCTION (FILE)`, the outermost first, as py-spy writes them.
    """
    for frame in reversed(frames):
        function, _, file = frame.removesuffix(")").rpartition(" (")
        if _PASSING[0] in file and function.startswith(_PASSING[1]):
            continue
        method = function.rpartition(".")[2]
        for name, start, part in _RULES:
            if name in file and method.startswith(start):
                return part
    return "receive" if any(name in frame for frame in frames for name in _CLIENT) else None

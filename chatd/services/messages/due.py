"""What happens to rows with a due time. The tables are those of chatd.hub.timers."""

from chatd.hub.timers import Timed
from chatd.services.messages import commands, lifetimes, scheduled, streams

TIMED = {
    "expiry": Timed(lifetimes.expire, lifetimes.abandon),
    "command": Timed(commands.expire, commands.abandon),
    "scheduled": Timed(scheduled.fire, scheduled.abandon),
    "live_stream": Timed(streams.look_at, streams.abandon),
}

"""Names in a network without a way out: what nobody there can answer is not waited for."""

from __future__ import annotations

from pathlib import Path

from tests.docker.launching import Desk
from tests.servers.engine import Engine

_SOON_S = 4  # a resolver waits 5 s for its first answer if nobody tells it otherwise


def test_a_name_that_isolated_hosts_cannot_resolve_fails_soon(engine: Engine, tmp_path: Path) -> None:
    desk = Desk.set_up(tmp_path, engine)
    desk.project.write(ESTIMATOR={"INSTANCE_COUNT": 2, "ENABLE_NETWORK_ISOLATION": True})
    desk.program(
        "def took(name, family):\n"
        "    start = time.monotonic()\n"
        "    try: socket.getaddrinfo(name, 80, family)\n"
        "    except OSError: return time.monotonic() - start\n"
        "    return 0\n"
        "if host() == 'algo-1': tell(none=took('sts.amazonaws.com', 0), six=took('algo-2', socket.AF_INET6),"
        " four=socket.gethostbyname('algo-2'))"
    )
    done = desk.launch()
    assert done.code == 0, done.done.err
    told = done.told()
    assert told["four"].count(".") == 3
    assert max(told["none"], told["six"]) < _SOON_S

"""A session of qemu.qmp's legacy, synchronous client: legacy_session.py SOCKET"""

import os
import sys

from qemu.qmp import ExecuteError
from qemu.qmp.legacy import QEMUMonitorProtocol

with QEMUMonitorProtocol(sys.argv[1]) as qmp:
    greeting = qmp.connect()
    assert greeting["QMP"]["capabilities"] == ["oob"], greeting
    qmp.settimeout(20.0)
    assert qmp.cmd("query-status")["running"]
    assert qmp.cmd_obj({"execute": "query-name", "id": "mine"}) == {"return": {}, "id": "mine"}
    assert qmp.cmd_raw("nope")["error"]["class"] == "CommandNotFound"
    try:
        qmp.cmd("closefd", fdname="nope")
        raise AssertionError("nothing has that name")
    except ExecuteError as error:
        assert str(error) == "File descriptor named 'nope' not found", error

    qmp.cmd("stop")
    assert qmp.pull_event(wait=20.0)["event"] == "STOP"
    qmp.cmd("cont")
    assert [event["event"] for event in qmp.get_events(wait=20.0)] == ["RESUME"]
    assert qmp.pull_event() is None

    with open(os.devnull, "rb") as null:
        qmp.send_fd_scm(null.fileno())
    qmp.cmd("getfd", fdname="null")
    qmp.cmd("closefd", fdname="null")

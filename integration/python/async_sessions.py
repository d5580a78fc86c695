"""Sessions of qemu.qmp's asyncio client: async_sessions.py SESSION SOCKET...

Each session is a coroutine below; an exception is a failure.
"""

import asyncio
import os
import sys

from qemu.qmp import EventListener, ExecuteError, QMPClient

LIMIT = 20


async def client(socket, name="test"):
    qmp = QMPClient(name)
    await qmp.connect(socket)
    return qmp


async def commands(socket):
    """negotiate, ask, be refused, go on"""
    qmp = await client(socket)
    assert qmp.greeting.QMP.version["qemu"]["major"] == 7, qmp.greeting
    assert (await qmp.execute("query-status"))["status"] == "running"
    names = {entry["name"] for entry in await qmp.execute("query-commands")}
    assert {"query-status", "getfd", "quit"} <= names, names
    try:
        await qmp.execute("no-such-command", {"a": 1})
        raise AssertionError("an unknown command succeeded")
    except ExecuteError as error:
        assert error.error.error.class_ == "CommandNotFound", error
        assert str(error) == "The command no-such-command has not been found", error
    try:
        await qmp.execute("getfd", {"fdname": 1})
        raise AssertionError("a number is no name")
    except ExecuteError as error:
        assert str(error) == "Invalid parameter type for 'fdname', expected: string", error
    assert await qmp.execute("query-name") == {}
    await qmp.disconnect()


async def events(socket):
    """stop and cont are seen as events, in order, by a listener and by the queue of all"""
    qmp = await client(socket)
    with qmp.listener(("STOP", "RESUME")) as listener:
        for _ in range(10):
            await qmp.execute("stop")
            await qmp.execute("cont")
        for _ in range(10):
            assert (await listener.get())["event"] == "STOP"
            assert (await listener.get())["event"] == "RESUME"
        assert listener.empty()
    await qmp.disconnect()


async def descriptors(socket):
    """a descriptor by SCM_RIGHTS on a lone space, then the command that takes it"""
    qmp = await client(socket)
    with open(os.devnull, "rb") as null:
        qmp.send_fd_scm(null.fileno())
        await qmp.execute("getfd", {"fdname": "null"})
        await qmp.execute("closefd", {"fdname": "null"})
        qmp.send_fd_scm(null.fileno())
        added = await qmp.execute("add-fd", {"opaque": "python"})
    sets = await qmp.execute("query-fdsets")
    assert sets == [{"fdset-id": added["fdset-id"], "fds": [{"fd": added["fd"], "opaque": "python"}]}], sets
    await qmp.execute("remove-fd", {"fdset-id": added["fdset-id"]})
    try:
        await qmp.execute("getfd", {"fdname": "none"})
        raise AssertionError("there was no descriptor left")
    except ExecuteError as error:
        assert "No file descriptor supplied via SCM_RIGHTS" in str(error), error
    await qmp.disconnect()


async def flood(*sockets):
    """1,000 commands in flight, spread over as many clients as there are sockets given"""
    clients = [await client(socket, f"client {n}") for n, socket in enumerate(sockets)]
    each = 1000 // len(clients)
    replies = await asyncio.gather(*(qmp.execute("query-status") for qmp in clients for _ in range(each)))
    assert all(reply["running"] for reply in replies)
    assert len(replies) == each * len(clients)
    await asyncio.gather(*(qmp.disconnect() for qmp in clients))


async def quit_(socket):
    """quit: its event, its reply, then the end of the connection"""
    qmp = await client(socket)
    listener = EventListener("SHUTDOWN")
    qmp.register_listener(listener)
    await qmp.execute("quit")
    shutdown = await listener.get()
    assert shutdown["data"] == {"guest": False, "reason": "host-qmp-quit"}, shutdown
    try:
        await qmp.disconnect()
    except EOFError:
        pass  # how the library says that the server has closed


SESSIONS = {
    "commands": commands,
    "events": events,
    "descriptors": descriptors,
    "flood": flood,
    "quit": quit_,
}

if __name__ == "__main__":
    asyncio.run(asyncio.wait_for(SESSIONS[sys.argv[1]](*sys.argv[2:]), LIMIT))

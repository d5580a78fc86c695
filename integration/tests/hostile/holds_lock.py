"""Passes a TCP socket or a pipe whose lock a thread of this process holds, has it closed, and waits to be killed.

The thread writes from a page that is registered with userfaultfd and that nobody ever fills in: the kernel copies from it
with the lock held. A socket is closed under a name; a pipe comes with a message of a client that negotiates nothing and leaves.
Arguments: the monitor's path, and `socket` or `pipe`. Without the right to do so (vm.unprivileged_userfaultfd, or root) it says SKIPPED.
"""

import ctypes
import fcntl
import json
import mmap
import os
import socket
import struct
import sys
import threading
import time

UFFDIO_API, UFFDIO_REGISTER, MODE_MISSING = 0xC018AA3F, 0xC020AA00, 1
USERFAULTFD = {"x86_64": 323, "aarch64": 282}.get(os.uname().machine)


def skip(why):
    print(f"SKIPPED: {why}", flush=True)
    sys.exit(0)


def page_that_nobody_fills_in():
    libc = ctypes.CDLL(None, use_errno=True)
    if USERFAULTFD is None:
        skip("no number of userfaultfd is known for this machine")
    uffd = libc.syscall(USERFAULTFD, os.O_CLOEXEC)
    if uffd < 0:
        skip(f"userfaultfd cannot be had here ({os.strerror(ctypes.get_errno())}); root can")
    fcntl.ioctl(uffd, UFFDIO_API, bytearray(struct.pack("QQQ", 0xAA, 0, 0)))
    page = mmap.mmap(-1, mmap.PAGESIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    start = ctypes.addressof(ctypes.c_char.from_buffer(page))
    fcntl.ioctl(uffd, UFFDIO_REGISTER, bytearray(struct.pack("QQQQ", start, mmap.PAGESIZE, MODE_MISSING, 0)))
    return page


def main():
    page = page_that_nobody_fills_in()
    if sys.argv[2] == "pipe":
        passed, written = os.pipe()
    else:
        listener = socket.create_server(("127.0.0.1", 0))
        passed = written = socket.create_connection(listener.getsockname()).detach()
        listener.accept()[0].detach()
    stuck = threading.Thread(target=os.write, args=(written, memoryview(page)), daemon=True)
    stuck.start()
    state = f"/proc/self/task/{stuck.native_id}/wchan"
    for _ in range(1000):
        with open(state) as wchan:
            if "userfault" in wchan.read():
                break
        time.sleep(0.002)
    else:
        skip("the thread that was to be stuck is not, as far as can be seen")

    monitor = socket.socket(socket.AF_UNIX)
    monitor.connect(sys.argv[1])
    replies = monitor.makefile("r")
    replies.readline()

    def execute(command, arguments, fds=()):
        request = json.dumps({"execute": command, "arguments": arguments}).encode()
        socket.send_fds(monitor, [request], list(fds))

    if sys.argv[2] == "pipe":
        socket.send_fds(monitor, [b" "], [passed])
        # The last close is the one that waits: the monitor's.
        os.close(passed)
        monitor.close()
        replies.close()
    else:
        execute("qmp_capabilities", {})
        replies.readline()
        execute("getfd", {"fdname": "locked"}, [passed])
        assert "return" in replies.readline()
        execute("closefd", {"fdname": "locked"})
    print("passed", flush=True)
    sys.stdin.read()


main()

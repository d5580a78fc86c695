//! QMP without I/O: QEMU's JSON dialect in, replies and events out.

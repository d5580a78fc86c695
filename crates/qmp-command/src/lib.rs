//! What a QMP command is: metadata, typed arguments with QAPI's errors, a tower stack per command, a router.

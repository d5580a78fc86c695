//! The transport of monitors: listeners and connections, file descriptors by SCM_RIGHTS, peer credentials.

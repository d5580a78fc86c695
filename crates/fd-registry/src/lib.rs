//! QEMU's fd sets on a dashmap, and named file descriptors.

//! QEMU's management interface for any Rust VMM.

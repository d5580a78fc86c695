//! derive(QapiType): describes a Rust type to qmp-command as a QAPI type.

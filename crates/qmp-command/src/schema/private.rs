//! What `#[derive(QapiType)]` writes paths to. Not for direct use; it may change with any release.

pub use serde;

pub use crate::arguments::flat::{Flat, FlatUnion, deserialize, next_group};

/// Whether two names are equal, for assertions at compile time.
pub const fn same(one: &str, other: &str) -> bool {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    if one.len() != other.len() {
        return false;
    }
    let mut index = 0;
    while index < one.len() {
        if one[index] != other[index] {
            return false;
        }
        index += 1;
    }
    true
}

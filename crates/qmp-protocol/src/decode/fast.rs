//! The shortcut for what clients send: a plain command, whole in one slice.

use super::Limits;
use crate::message::Request;

/// Takes a command from the front of `input`, white space before it included, if a plain one stands there; else leaves
/// `input` alone.
pub(super) fn request(_input: &mut &[u8], _limits: &Limits) -> Option<Request> {
    None
}

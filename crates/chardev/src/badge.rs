//! Whose a chardev or a connection is.

use std::any::Any;
use std::sync::Arc;

/// An opaque tag: who made a chardev, or handed a connection to it. Nothing here looks at it; whoever decides what a
/// connection may do asks for it.
pub type Badge = Arc<dyn Any + Send + Sync>;

//! A chardev as it stands in the object tree, under `/chardevs`. Its life is the registry's.

use std::sync::{Arc, Weak};

use chardev::Chardev;
use qmp_command::QapiType;
use serde::{Deserialize, Serialize};

use crate::objects::{NoProperties, Object};

/// Properties of a socket chardev.
#[derive(Debug, Deserialize, Serialize, QapiType)]
#[qapi(name = "XChardevSocketProperties")]
#[non_exhaustive]
pub struct ChardevSocketProperties {
    /// Whether a client is connected.
    pub connected: bool,
}

/// A socket chardev. Weak: what is removed is closed, whoever looks at it just then.
#[derive(Debug)]
pub(crate) struct SocketObject(Weak<Chardev>);

/// Any other.
#[derive(Debug)]
pub(crate) struct OtherObject;

impl SocketObject {
    pub(crate) fn new(chardev: &Arc<Chardev>) -> Self {
        Self(Arc::downgrade(chardev))
    }
}

impl Object for SocketObject {
    type Properties = ChardevSocketProperties;

    fn properties(&self) -> ChardevSocketProperties {
        ChardevSocketProperties { connected: self.0.upgrade().is_some_and(|chardev| chardev.is_connected()) }
    }

    fn in_use(&self) -> bool {
        true
    }
}

impl Object for OtherObject {
    type Properties = NoProperties;

    fn properties(&self) -> NoProperties {
        NoProperties {}
    }

    fn in_use(&self) -> bool {
        true
    }
}

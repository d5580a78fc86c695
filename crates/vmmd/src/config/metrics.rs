//! Where metrics are served.

use serde::Deserialize;

use super::{ChardevConfig, ChardevSpec};
use crate::error::ConfigError;

/// A listener for metrics as it was written: a unix socket, as a chardev has it that listens and does not wait.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[expect(
    missing_docs,
    reason = "each field is the key of the same name; its meaning is said in SocketConfig and SocketAddress"
)]
pub struct MetricsSpec {
    pub path: String,
    #[serde(rename = "abstract")]
    pub abstract_name: Option<bool>,
    pub tight: Option<bool>,
    pub allowed_uids: Option<Vec<u32>>,
    pub allowed_gids: Option<Vec<u32>>,
}

impl MetricsSpec {
    /// What is meant, and warnings about keys that mean nothing here.
    ///
    /// # Errors
    /// The path cannot be, without the place.
    pub(super) fn build(self, origin: &str) -> Result<(ChardevConfig, Vec<String>), ConfigError> {
        let Self { path, abstract_name, tight, allowed_uids, allowed_gids } = self;
        let spec = ChardevSpec {
            // For the log. It is on no list, so a chardev may be called the same.
            id: Some("metrics".to_owned()),
            backend: Some("socket".to_owned()),
            path: Some(path),
            abstract_name,
            tight,
            server: Some(true),
            wait: Some(false),
            allowed_uids,
            allowed_gids,
            ..ChardevSpec::default()
        };
        spec.build(origin)
    }
}

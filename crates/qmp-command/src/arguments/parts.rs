//! Arguments whose type is known only while they are decoded.

use qmp_protocol::{Error, Object, Value};
use serde::de::DeserializeOwned;

use super::members::{Group, Level};
use super::path::Path;

/// An object that is decoded part by part: first the members that say what it is, then those which that asks for.
///
/// It is to unions of run-time types what the derive is to those that the compiler knows, and complains in the same
/// order: of declared members part by part, of left-over ones at the end.
///
/// ```
/// use qmp_command::arguments::Parts;
/// use serde::Deserialize;
///
/// #[derive(Deserialize)]
/// struct Kind { kind: String }
/// #[derive(Deserialize)]
/// struct Size { size: u64 }
///
/// let mut parts = Parts::new(serde_json::from_str(r#"{"kind": "ram", "size": "1", "x": 1}"#)?);
/// assert_eq!(parts.take::<Kind>().unwrap().kind, "ram");
/// assert_eq!(parts.take::<Size>().err().unwrap().desc, "Parameter 'size' expects uint64");
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug)]
pub struct Parts(Level);

impl Parts {
    /// The parts of these arguments.
    pub fn new(arguments: Object) -> Self {
        Self(Level::new(arguments))
    }

    /// The next part: a struct's members, or `()` for none.
    ///
    /// # Errors
    /// What QAPI says about members that do not fit.
    pub fn take<T: DeserializeOwned>(&mut self) -> Result<T, Error> {
        let path = Path::Root;
        T::deserialize(Group::new(&mut self.0, &path)).map_err(|error| error.into_qmp(&path))
    }

    /// A member of any type, as it came. `name` is for [`finish`](Self::finish) too.
    ///
    /// # Errors
    /// That it is missing.
    pub fn take_any(&mut self, name: &'static [&'static str; 1]) -> Result<Value, Error> {
        let [member] = name;
        self.0.ask(name);
        self.0.take(member).ok_or_else(|| Error::generic(format!("Parameter '{member}' is missing")))
    }

    /// To be called after the last part.
    ///
    /// # Errors
    /// A member that no part has asked for.
    pub fn finish(self) -> Result<(), Error> {
        let path = Path::Root;
        self.0.finish(&path).map_err(|error| error.into_qmp(&path))
    }
}

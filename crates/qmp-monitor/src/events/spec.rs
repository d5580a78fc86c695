//! Declaring events.

use qmp_command::schema::{Member, SchemaError, TypeDef, TypeRef, Types, validate};
use qmp_command::{Feature, QapiType};
use qmp_protocol::Value;

/// The declaration of an event.
#[derive(Clone, Debug)]
pub struct EventSpec {
    pub(super) name: &'static str,
    doc: &'static str,
    data: fn(&mut Types) -> TypeRef,
    pub(super) extension: bool,
    pub(super) throttle: Option<ThrottleKey>,
    features: Vec<Feature>,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum ThrottleKey {
    /// One window for all events of the name.
    Name,
    /// One per value of this member of the data.
    Member(&'static str),
}

impl EventSpec {
    /// An event of QEMU's: every session gets it from negotiation on. `T` is the type of its data, `()` for none.
    pub fn standard<T: QapiType>(name: &'static str) -> Self {
        Self { name, doc: "", data: T::describe, extension: false, throttle: None, features: Vec::new() }
    }

    /// An event that QEMU does not have. It is off until a session enables it, because some clients end the
    /// connection when they see an event they do not know.
    pub fn extension<T: QapiType>(name: &'static str) -> Self {
        Self { extension: true, ..Self::standard::<T>(name) }
    }

    /// What the event says, for the manual.
    #[must_use]
    pub fn doc(mut self, doc: &'static str) -> Self {
        self.doc = doc;
        self
    }

    /// At most one a second; of those that are raised too soon the last is sent, with the time it was raised.
    #[must_use]
    pub fn throttled(mut self) -> Self {
        self.throttle = Some(ThrottleKey::Name);
        self
    }

    /// As [`throttled`](Self::throttled), separately for each value of a member of the data, which is a text.
    #[must_use]
    pub fn throttled_by(mut self, member: &'static str) -> Self {
        self.throttle = Some(ThrottleKey::Member(member));
        self
    }

    /// Adds a feature that introspection shows.
    #[must_use]
    pub fn feature(mut self, feature: Feature) -> Self {
        self.features.push(feature);
        self
    }

    /// The event's name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// What the event says.
    pub fn description(&self) -> &'static str {
        self.doc
    }

    /// Whether sessions must ask for it.
    pub fn is_extension(&self) -> bool {
        self.extension
    }

    /// Describes the event's data in `types`, and returns a reference to it: [`TypeRef::Empty`] for none.
    pub fn describe(&self, types: &mut Types) -> TypeRef {
        (self.data)(types)
    }

    /// The features that introspection shows.
    pub fn features(&self) -> &[Feature] {
        &self.features
    }

    /// Whether events of this name are limited to one a second.
    pub fn is_throttled(&self) -> bool {
        self.throttle.is_some()
    }

    /// Checks the name, and describes the data in `types`.
    pub(super) fn check(&self, types: &mut Types) -> Result<(), DeclareError> {
        if !is_event_name(self.name) {
            return Err(DeclareError::IllegalName(self.name.to_owned()));
        }
        let data = (self.data)(types);
        if let Some(source) = validate(types, &data).err().and_then(|errors| errors.into_iter().next()) {
            return Err(DeclareError::Type { event: self.name, source });
        }
        let members = self.members(types, &data)?;
        match self.throttle {
            Some(ThrottleKey::Member(member)) if !members.iter().any(|there| there.name == member) => {
                Err(DeclareError::NoMember { event: self.name, member })
            }
            _ => Ok(()),
        }
    }

    /// The members of the data, which is an object or nothing; a union's without those of its branches.
    fn members<'a>(&self, types: &'a Types, data: &TypeRef) -> Result<&'a [Member], DeclareError> {
        let TypeRef::Named(name) = data else {
            return match data {
                TypeRef::Empty => Ok(&[]),
                other => Err(DeclareError::DataNotAStruct { event: self.name, found: other.to_string() }),
            };
        };
        match types.get(name) {
            Some(TypeDef::Struct { members, .. } | TypeDef::Union { base: members, .. }) => Ok(members),
            _ => Err(DeclareError::DataNotAStruct { event: self.name, found: (*name).to_owned() }),
        }
    }
}

/// Capital letters, digits and `_`, starting with a letter; a downstream prefix (`__COM.EXAMPLE_`) may stand before.
fn is_event_name(name: &str) -> bool {
    let own =
        name.strip_prefix("__").and_then(|rest| rest.split_once('_')).map_or(name, |(_domain, own)| own);
    own.starts_with(|c: char| c.is_ascii_uppercase())
        && own.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
        && name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || "_.-".contains(c))
}

/// Why a set of events cannot be declared.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeclareError {
    /// Two events of one name.
    #[error("the event {0:?} is declared twice")]
    Duplicate(&'static str),
    /// A name that QAPI does not allow.
    #[error("{0:?} is no name for an event: QAPI allows capital letters, digits and '_'")]
    IllegalName(String),
    /// Data is an object: a struct, a union, or nothing.
    #[error("the event {event:?}: its data must be a struct or a union, and {found} is neither")]
    DataNotAStruct {
        /// The event.
        event: &'static str,
        /// What its data is.
        found: String,
    },
    /// It is throttled by something that its data does not have.
    #[error("the event {event:?} is throttled by {member:?}, which is no member of its data")]
    NoMember {
        /// The event.
        event: &'static str,
        /// What it is throttled by.
        member: &'static str,
    },
    /// Data of a type that QAPI cannot express.
    #[error("the event {event:?}: {source}")]
    Type {
        /// The event.
        event: &'static str,
        /// What is wrong, with the field's name.
        source: SchemaError,
    },
}

/// Why an event was not raised.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EmitError {
    /// The event was not declared to the plane.
    #[error("the event {0:?} was not declared")]
    Undeclared(String),
    /// Its data cannot be written as JSON.
    #[error("the data of {event:?} cannot be encoded: {source}")]
    Encode {
        /// The event.
        event: &'static str,
        /// Why.
        source: qmp_protocol::EncodeError,
    },
}

impl ThrottleKey {
    pub(super) fn of(self, data: Option<&Value>) -> Option<String> {
        match self {
            Self::Name => None,
            Self::Member(member) => data?.as_object()?.get(member)?.as_str().map(str::to_owned),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(qmp_command::QapiType, serde::Serialize)]
    #[serde(rename_all = "kebab-case")]
    struct Rung {
        bell: String,
    }

    fn refused(spec: EventSpec) -> String {
        spec.check(&mut Types::new()).unwrap_err().to_string()
    }

    #[test]
    fn data_is_an_object() {
        for (spec, found) in [
            (EventSpec::standard::<u64>("X_RUNG"), "uint64"),
            (EventSpec::extension::<Vec<Rung>>("X_RUNG"), "['Rung']"),
            (EventSpec::standard::<String>("X_RUNG").throttled(), "str"),
        ] {
            let text =
                format!("the event \"X_RUNG\": its data must be a struct or a union, and {found} is neither");
            assert_eq!(refused(spec), text);
        }
        assert!(EventSpec::standard::<Rung>("X_RUNG").check(&mut Types::new()).is_ok());
        assert!(EventSpec::standard::<()>("X_RUNG").check(&mut Types::new()).is_ok());
    }

    #[test]
    fn what_throttles_is_a_member() {
        let by = |member| EventSpec::standard::<Rung>("X_RUNG").throttled_by(member);
        assert!(by("bell").check(&mut Types::new()).is_ok());
        assert_eq!(
            refused(by("door")),
            "the event \"X_RUNG\" is throttled by \"door\", which is no member of its data"
        );
        assert!(refused(EventSpec::standard::<()>("X_RUNG").throttled_by("bell")).contains("no member"));
    }

    #[test]
    fn names() {
        for good in ["STOP", "X_RUNG", "VFU_CLIENT_HANGUP", "A1", "__COM.EXAMPLE_RUNG"] {
            assert!(is_event_name(good), "{good}");
        }
        for bad in ["", "stop", "1A", "_A", "A B", "__COM.EXAMPLE_", "A-B.C", "A\n"] {
            assert!(!is_event_name(bad), "{bad}");
        }
    }
}

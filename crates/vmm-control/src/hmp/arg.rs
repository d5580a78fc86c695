//! What a human command takes.

/// An argument of a [`HumanCommand`](super::HumanCommand). Arguments stand in a line in the order of their
/// declaration, separated by white space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HumanArg {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) presence: Presence,
}

/// What an argument looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    String,
    Filename,
    Options,
    Rest,
    Int32,
    Int64,
    Mebibytes,
    Size,
    OnOff,
    Flag(char),
    Format,
}

/// When an argument is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Presence {
    Always,
    /// Unless the line ends before it.
    Optional,
    /// If a dot stands before it.
    AfterDot,
}

impl HumanArg {
    const fn new(name: &'static str, kind: Kind) -> Self {
        Self { name, kind, presence: Presence::Always }
    }

    /// A word, or a string in quotation marks.
    #[must_use]
    pub const fn string(name: &'static str) -> Self {
        Self::new(name, Kind::String)
    }

    /// The same; the complaint about its absence asks for a file's name.
    #[must_use]
    pub const fn filename(name: &'static str) -> Self {
        Self::new(name, Kind::Filename)
    }

    /// `type,key=value,...`: a string as [`string`](Self::string) takes it, and nothing when the line ends.
    #[must_use]
    pub const fn options(name: &'static str) -> Self {
        Self::new(name, Kind::Options)
    }

    /// Everything up to the end of the line, as it stands.
    #[must_use]
    pub const fn rest(name: &'static str) -> Self {
        Self::new(name, Kind::Rest)
    }

    /// An expression whose value has 32 bits and no sign.
    #[must_use]
    pub const fn integer(name: &'static str) -> Self {
        Self::new(name, Kind::Int32)
    }

    /// An expression of 64 bits.
    #[must_use]
    pub const fn long(name: &'static str) -> Self {
        Self::new(name, Kind::Int64)
    }

    /// An expression that counts mebibytes; the handler gets bytes.
    #[must_use]
    pub const fn mebibytes(name: &'static str) -> Self {
        Self::new(name, Kind::Mebibytes)
    }

    /// A size with a unit (`512k`, `1.5G`), mebibytes without one; the handler gets bytes.
    #[must_use]
    pub const fn size(name: &'static str) -> Self {
        Self::new(name, Kind::Size)
    }

    /// `on` or `off`.
    #[must_use]
    pub const fn on_off(name: &'static str) -> Self {
        Self::new(name, Kind::OnOff)
    }

    /// A flag, as `-j`. Flags may stand in any order among each other.
    #[must_use]
    pub const fn flag(letter: char, name: &'static str) -> Self {
        Self::new(name, Kind::Flag(letter))
    }

    /// How numbers are shown: `/x`, `/d`, `/hx`. A line may go without: then it is as the last command was told.
    #[must_use]
    pub const fn format(name: &'static str) -> Self {
        Self::new(name, Kind::Format)
    }

    /// The line may end before it.
    #[must_use]
    pub const fn optional(mut self) -> Self {
        self.presence = Presence::Optional;
        self
    }

    /// It is only there when a dot stands before it. For numbers.
    #[must_use]
    pub const fn after_dot(mut self) -> Self {
        self.presence = Presence::AfterDot;
        self
    }
}

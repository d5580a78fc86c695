//! What has changed between two schemas, as clients of the first see it.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::Break;
use super::model::{Member, Model, Object, Type};

/// The feature of what may change at any time.
const UNSTABLE: &str = "unstable";

/// The features that tell clients what to expect of the future, not what they can do.
const NOTICES: [&str; 2] = ["deprecated", UNSTABLE];

/// Which way a value goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Way {
    /// From the client: what it could say it must be able to say.
    In,
    /// To the client: what it relied on it must get.
    Out,
}

pub(super) struct Comparison<'a> {
    frozen: &'a Model,
    current: &'a Model,
    /// Pairs of types of the command at hand that were compared, or are being so: types may refer to themselves.
    seen: HashSet<(&'a str, &'a str, Way)>,
    breaks: Vec<Break>,
}

impl<'a> Comparison<'a> {
    pub(super) fn new(frozen: &'a Model, current: &'a Model) -> Self {
        Self { frozen, current, seen: HashSet::new(), breaks: Vec::new() }
    }

    pub(super) fn run(mut self) -> Vec<Break> {
        for (name, old) in &self.frozen.commands {
            let place = format!("command {name}");
            if old.features.contains(UNSTABLE) {
                continue;
            }
            let Some(new) = self.current.commands.get(name) else {
                self.note(&place, "is gone");
                continue;
            };
            if old.oob && !new.oob {
                self.note(&place, "cannot be executed out-of-band any more");
            }
            self.features(&place, &old.features, &new.features);
            self.seen.clear();
            self.named(&format!("{place}, argument "), &old.arguments, &new.arguments, Way::In);
            self.named(&format!("{place}, return value "), &old.returns, &new.returns, Way::Out);
        }
        for (name, old) in &self.frozen.events {
            let place = format!("event {name}");
            if old.features.contains(UNSTABLE) {
                continue;
            }
            let Some(new) = self.current.events.get(name) else {
                self.note(&place, "is gone");
                continue;
            };
            self.features(&place, &old.features, &new.features);
            self.seen.clear();
            self.named(&format!("{place}, data "), &old.data, &new.data, Way::Out);
        }
        self.breaks
    }

    fn note(&mut self, place: &str, change: impl Into<String>) {
        // Behind the words `argument` and the like stands the path, which is empty for the whole.
        let place = place.trim_end_matches(['.', ' ']).to_owned();
        self.breaks.push(Break { place, change: change.into() });
    }

    fn features(&mut self, place: &str, old: &BTreeSet<String>, new: &BTreeSet<String>) {
        for feature in old.difference(new).filter(|feature| !NOTICES.contains(&feature.as_str())) {
            self.note(place, format!("has no feature '{feature}' any more"));
        }
        if new.contains(UNSTABLE) && !old.contains(UNSTABLE) {
            self.note(place, "is unstable now");
        }
    }

    /// Compares two types by their names.
    fn named(&mut self, place: &str, old: &'a str, new: &'a str, way: Way) {
        let (frozen, current) = (self.frozen, self.current);
        // What has parts may hold itself; what has none is told of at every place.
        let has_parts = !matches!(frozen.ty(old), Type::Builtin(_) | Type::Enum(_));
        if has_parts && !self.seen.insert((old, new, way)) {
            return;
        }
        match (frozen.ty(old), current.ty(new)) {
            (Type::Alternate(old), Type::Alternate(new)) => self.alternates(place, old, new, way),
            (_, Type::Alternate(choices)) if way == Way::In => {
                if !choices.iter().any(|choice| self.fits(old, choice, way)) {
                    self.note(place, format!("cannot be {} any more", describe(frozen.ty(old))));
                }
            }
            (Type::Alternate(choices), _) if way == Way::Out => {
                if !choices.iter().any(|choice| self.fits(choice, new, way)) {
                    self.note(place, format!("may be {} now", describe(current.ty(new))));
                }
            }
            (Type::Object(old), Type::Object(new)) => self.objects(place, old, new, way),
            (Type::Array(old), Type::Array(new)) => {
                let place = place.trim_end_matches('.');
                self.named(&format!("{place}[]."), old, new, way);
            }
            (Type::Enum(old), Type::Enum(new)) => self.enums(place, old, new),
            (old, new) => {
                let (narrow, wide) = if way == Way::In { (old, new) } else { (new, old) };
                if !is_within(narrow, wide) {
                    self.note(place, format!("was {} and is {}", describe(old), describe(new)));
                }
            }
        }
    }

    /// Whether what was `old` can be `new`. Notes nothing.
    fn fits(&self, old: &'a str, new: &'a str, way: Way) -> bool {
        let mut trial = Self { seen: self.seen.clone(), breaks: Vec::new(), ..*self };
        trial.named("", old, new, way);
        trial.breaks.is_empty()
    }

    fn alternates(&mut self, place: &str, old: &'a [String], new: &'a [String], way: Way) {
        let (frozen, current) = (self.frozen, self.current);
        let lost: Vec<String> = match way {
            Way::In => {
                let lost = old.iter().filter(|old| !new.iter().any(|new| self.fits(old, new, way)));
                lost.map(|ty| format!("cannot be {} any more", describe(frozen.ty(ty)))).collect()
            }
            Way::Out => {
                let strange = new.iter().filter(|new| !old.iter().any(|old| self.fits(old, new, way)));
                strange.map(|ty| format!("may be {} now", describe(current.ty(ty)))).collect()
            }
        };
        lost.into_iter().for_each(|change| self.note(place, change));
    }

    fn objects(&mut self, place: &str, old: &'a Object, new: &'a Object, way: Way) {
        self.members(place, &old.members, &new.members, way);
        match (&old.tag, &new.tag) {
            (Some(was), Some(is)) if was != is => {
                self.note(place, format!("is told apart by '{is}' and no more by '{was}'"));
            }
            (_, Some(tag)) => self.branches(place, old, new, tag, way),
            (Some(was), None) if old.variants.values().any(|ty| self.has_members(ty)) => {
                self.note(place, format!("has no members that depend on '{was}' any more"));
            }
            (_, None) => {}
        }
    }

    /// What comes with each value of a tag that clients knew: with some of them nothing came.
    fn branches(&mut self, place: &str, old: &'a Object, new: &'a Object, tag: &str, way: Way) {
        let (frozen, current) = (self.frozen, self.current);
        for (case, is) in new.variants.iter().filter(|(case, _)| could_be(frozen, old, tag, case)) {
            match (old.variants.get(case), current.ty(is)) {
                (Some(was), _) => self.named(place, was, is, way),
                (None, Type::Object(branch)) => self.news(place, &old.members, &branch.members, way),
                (None, _) => {}
            }
        }
        let gone = old.variants.iter().filter(|(case, _)| !new.variants.contains_key(*case));
        for (case, was) in gone.filter(|(case, _)| could_be(frozen, old, tag, case)) {
            // A value that has gone is the tag's to tell.
            if self.has_members(was) && could_be(current, new, tag, case) {
                self.note(place, format!("has no members any more that come with '{case}'"));
            }
        }
    }

    fn has_members(&self, ty: &str) -> bool {
        matches!(self.frozen.ty(ty), Type::Object(it) if !it.members.is_empty() || !it.variants.is_empty())
    }

    fn members(
        &mut self,
        place: &str,
        old: &'a BTreeMap<String, Member>,
        new: &'a BTreeMap<String, Member>,
        way: Way,
    ) {
        for (name, was) in old.iter().filter(|(_, was)| !was.features.contains(UNSTABLE)) {
            let place = format!("{place}{name}.");
            let Some(is) = new.get(name) else {
                self.note(&place, "is gone");
                continue;
            };
            match way {
                Way::In if was.optional && !is.optional => self.note(&place, "is mandatory now"),
                Way::Out if !was.optional && is.optional => self.note(&place, "may be absent now"),
                _ => {}
            }
            self.features(&place, &was.features, &is.features);
            self.named(&place, &was.ty, &is.ty, way);
        }
        self.news(place, old, new, way);
    }

    /// What there was not. A client says nothing of it, and need not look at it.
    fn news(
        &mut self,
        place: &str,
        old: &BTreeMap<String, Member>,
        new: &BTreeMap<String, Member>,
        way: Way,
    ) {
        for (name, is) in new.iter().filter(|(name, _)| !old.contains_key(*name)) {
            if way == Way::In && !is.optional {
                self.note(&format!("{place}{name}"), "is new and mandatory");
            }
        }
    }

    fn enums(
        &mut self,
        place: &str,
        old: &BTreeMap<String, BTreeSet<String>>,
        new: &BTreeMap<String, BTreeSet<String>>,
    ) {
        for (value, was) in old.iter().filter(|(_, was)| !was.contains(UNSTABLE)) {
            match new.get(value) {
                None => self.note(place, format!("has no value '{value}' any more")),
                Some(is) => self.features(&format!("{place}value '{value}'"), was, is),
            }
        }
    }
}

/// Whether clients may rely on the tag of a union being of this value.
fn could_be(model: &Model, union: &Object, tag: &str, value: &str) -> bool {
    match union.members.get(tag).map(|tag| model.ty(&tag.ty)) {
        Some(Type::Enum(values)) => values.get(value).is_some_and(|features| !features.contains(UNSTABLE)),
        Some(_) => true,
        None => false,
    }
}

/// Whether all values of one type are values of the other.
fn is_within(narrow: &Type, wide: &Type) -> bool {
    match (narrow, wide) {
        (_, Type::Builtin(wide)) if wide == "value" => true,
        (Type::Builtin(narrow), Type::Builtin(wide)) => {
            narrow == wide || (narrow == "int" && wide == "number")
        }
        (Type::Enum(_), Type::Builtin(wide)) => wide == "string",
        _ => false,
    }
}

fn describe(ty: &Type) -> String {
    match ty {
        Type::Builtin(json) if json == "value" => "anything".to_owned(),
        Type::Builtin(json) => match json.as_str() {
            "int" => "an integer".to_owned(),
            other => format!("a {other}"),
        },
        Type::Enum(_) => "an enum".to_owned(),
        Type::Array(_) => "a list".to_owned(),
        Type::Object(_) => "an object".to_owned(),
        Type::Alternate(_) => "one of several types".to_owned(),
    }
}

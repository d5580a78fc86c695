//! What every PCI device can be told, as QEMU has it.
//!
//! There is no PCI bus here that a guest could see: a device is reached through an export. So its place on a bus is
//! kept and shown, to no other effect, and what would need a bus or a ROM is refused.

use std::any::type_name;
use std::marker::PhantomData;

use qmp_command::schema::{Member, SchemaError, TypeDef, TypeRef, Types, validate};
use qmp_command::{CommandError, CommandResult, QapiType, arguments};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::super::class::PropertyInfo;

/// The properties, as they are given. Their order is that in which QEMU has them.
#[derive(Clone, Debug, Default, Deserialize, QapiType)]
#[serde(rename_all = "kebab-case")]
#[qapi(name = "XPciDeviceProperties")]
pub(super) struct Given {
    /// Its slot on a bus and, behind a dot, its function if that is not 0, both hexadecimal
    addr: Option<String>,
    /// A file for its ROM; there can be none
    romfile: Option<String>,
    /// The size of its ROM
    romsize: Option<u32>,
    /// Whether its ROM is shown
    rombar: Option<u32>,
    /// Whether there are other functions in its slot
    multifunction: Option<bool>,
    /// Whether the link state tells that the link is up
    x_pcie_lnksta_dllla: Option<bool>,
    /// Whether extended capabilities begin as the standard says
    x_pcie_extcap_init: Option<bool>,
    /// The device that it stands in for; there can be none
    #[serde(rename = "failover_pair_id")]
    failover_pair_id: Option<String>,
    /// The number by which firmware names it
    acpi_index: Option<u32>,
}

/// The same, as `qom-get` shows them.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Shown {
    addr: i32,
    romfile: String,
    romsize: u32,
    rombar: u32,
    multifunction: bool,
    x_pcie_lnksta_dllla: bool,
    x_pcie_extcap_init: bool,
    #[serde(rename = "failover_pair_id")]
    failover_pair_id: String,
    acpi_index: u32,
    legacy_addr: String,
}

/// Their names, but for the one that only shows another in words.
pub(super) const NAMES: &[&str] = &[
    "addr",
    "romfile",
    "romsize",
    "rombar",
    "multifunction",
    "x-pcie-lnksta-dllla",
    "x-pcie-extcap-init",
    "failover_pair_id",
    "acpi-index",
];

/// The one that only shows another in words.
pub(super) const LEGACY_ADDR: &str = "legacy-addr";

impl Given {
    /// What is in force for a device of the type `type_name`.
    pub(super) fn settle(self, type_name: &str) -> CommandResult<Shown> {
        let refuse = |name: &str, value: &str| {
            CommandError::generic(format!("Property '{type_name}.{name}' doesn't take value '{value}'"))
        };
        let addr = match &self.addr {
            None => -1,
            Some(text) => devfn(text).ok_or_else(|| refuse("addr", text))?,
        };
        let none = |name: &str, value: Option<String>| match value {
            Some(value) if !value.is_empty() => Err(refuse(name, &value)),
            _ => Ok(String::new()),
        };
        Ok(Shown {
            addr,
            romfile: none("romfile", self.romfile)?,
            romsize: self.romsize.unwrap_or(u32::MAX),
            rombar: self.rombar.unwrap_or(1),
            multifunction: self.multifunction.unwrap_or(false),
            x_pcie_lnksta_dllla: self.x_pcie_lnksta_dllla.unwrap_or(true),
            x_pcie_extcap_init: self.x_pcie_extcap_init.unwrap_or(true),
            failover_pair_id: none("failover_pair_id", self.failover_pair_id)?,
            acpi_index: self.acpi_index.unwrap_or(0),
            legacy_addr: match addr {
                -1 => "<unset>".to_owned(),
                addr => format!("{:02x}.{:x}", addr >> 3, addr & 7),
            },
        })
    }
}

/// `SLOT` or `SLOT.FUNCTION`, hexadecimal, as QEMU's number of both.
fn devfn(text: &str) -> Option<i32> {
    let (slot, function) = text.split_once('.').unwrap_or((text, "0"));
    let number = |text: &str, max: i32| {
        let hex = text.strip_prefix("0x").unwrap_or(text);
        let good = !hex.is_empty() && hex.bytes().all(|byte| byte.is_ascii_hexdigit());
        good.then(|| i32::from_str_radix(hex, 16).ok()).flatten().filter(|number| *number <= max)
    };
    Some(number(slot, 31)? << 3 | number(function, 7)?)
}

/// What their type has beside those of every device.
pub(super) fn class_properties() -> Vec<PropertyInfo> {
    // QEMU has the words before the number.
    let words = PropertyInfo::new(LEGACY_ADDR, "str");
    std::iter::once(words).chain(common()).collect()
}

/// The same without the words.
pub(super) fn common() -> Vec<PropertyInfo> {
    let mut all = described::<Given>();
    if let Some(addr) = all.iter_mut().find(|property| property.name == "addr") {
        // It is given as a text, and is a number.
        addr.ty = "int32".to_owned();
    }
    all
}

/// The members of a struct as properties, with the types that QEMU's devices have.
pub(super) fn described<P: QapiType>() -> Vec<PropertyInfo> {
    let mut types = Types::new();
    let info = |member: Member| PropertyInfo {
        description: (!member.doc.is_empty()).then(|| member.doc.to_owned()),
        ..PropertyInfo::new(member.name, member.ty.to_string())
    };
    members::<P>(&mut types).into_iter().map(info).collect()
}

fn members<P: QapiType>(types: &mut Types) -> Vec<Member> {
    match P::describe(types) {
        TypeRef::Named(name) => match types.get(name) {
            Some(TypeDef::Struct { members, .. }) => members.clone(),
            _ => Vec::new(),
        },
        _ => Vec::new(),
    }
}

/// A device's own properties and those of every PCI device, as one struct.
struct Both<P>(PhantomData<P>);

impl<P: QapiType + 'static> QapiType for Both<P> {
    fn describe(types: &mut Types) -> TypeRef {
        types.define::<Self>("XPciDevice", |types| {
            let mut all = members::<P>(types);
            all.extend(members::<Given>(types));
            TypeDef::Struct { name: "XPciDevice", doc: "", features: Vec::new(), members: all }
        })
    }
}

/// Describes what a device is told whose own properties are `P`.
pub(super) fn describe<P: QapiType + 'static>(types: &mut Types) -> TypeRef {
    Both::<P>::describe(types)
}

/// Whether serde reads the own properties as they are described.
pub(super) fn check<P: QapiType + DeserializeOwned>(_: &Types, _: &TypeRef) -> Result<(), SchemaError> {
    let mut types = Types::new();
    let described = P::describe(&mut types);
    if let Some(source) = validate(&types, &described).err().and_then(|errors| errors.into_iter().next()) {
        return Err(source);
    }
    match &described {
        TypeRef::Empty => {}
        TypeRef::Named(name) if matches!(types.get(name), Some(TypeDef::Struct { .. })) => {}
        _ => return Err(SchemaError::arguments_not_a_struct(type_name::<P>())),
    }
    arguments::check_type::<P>(&types, &described)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_on_a_bus() {
        for (text, place) in [("5", 40), ("05", 40), ("05.0", 40), ("1f.7", 255), ("0", 0), ("0x5", 40)] {
            assert_eq!(devfn(text), Some(place), "{text}");
        }
        for text in ["", "99", "20", "5.8", "x", ".", "5.", ".1", "-1", "5.0.0", "+5", "fffffffff"] {
            assert_eq!(devfn(text), None, "{text}");
        }
    }

    #[test]
    fn names_are_those_that_are_described() {
        let all: Vec<_> = common().into_iter().map(|property| property.name).collect();
        assert_eq!(all, NAMES);
    }
}

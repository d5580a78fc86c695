//! `type,key=value,...`: the notation of QEMU's command line and human monitor, as arguments of QMP commands.
//!
//! QEMU has two dialects of it. Both write a comma inside a value twice, and in both the first item may be a value
//! whose key is implied.
//!
//! | | keys | `foo` alone | used for |
//! |---|---|---|---|
//! | [`parse`] | `a.b.0=x` for nested members and list elements | an error | `-object`, `object_add` |
//! | [`Options::parse`] | flat | `foo=on`, and `nofoo` is `foo=off` | `-device`, `device_add`, `-chardev`, `chardev-add` |
//!
//! Values are text. [`arguments`] turns such texts into typed members by a type's description, in the order and with the
//! complaints of QAPI's visitor for such trees: numbers as C reads them (`0x10`, `010`), sizes with a unit (`1.5G`),
//! `on` and `off`.
//!
//! Nothing here does I/O, and whatever a client writes, nesting is bounded.
//!
//! ```
//! use vmm_control::QapiType;
//! use vmm_control::keyval::{arguments, parse};
//! use vmm_control::qmp_command::schema::Types;
//!
//! /// Memory of a guest.
//! #[derive(serde::Deserialize, QapiType)]
//! struct Memory {
//!     id: String,
//!     #[qapi(size)]
//!     size: u64,
//!     share: Option<bool>,
//! }
//!
//! let mut types = Types::new();
//! let memory = Memory::describe(&mut types);
//! let typed = |text| arguments(&parse(text, Some("id"))?, &types, &memory);
//! let object = typed("m0,size=1.5G,share=on")?;
//! assert_eq!(object.get("size").and_then(|size| size.as_u64()), Some(3 << 29));
//! assert_eq!(typed("m0,size=lots").unwrap_err().to_string(), "Parameter 'size' expects size");
//! # Ok::<(), vmm_control::keyval::KeyvalError>(())
//! ```

mod arguments;
mod error;
pub(crate) mod number;
mod object;
mod options;
mod tree;

pub use arguments::arguments;
pub use error::KeyvalError;
pub use object::object;
pub use options::{OptionItem, Options};
pub use tree::{asks_for_help, parse, take_value};

//! What a crate calls its dependencies, by its manifest.
//!
//! A derive's output names a crate that only the deriving crate's `Cargo.toml` knows the name of. Of TOML, this reads the
//! headers and the keys of dependency tables, and that is all; a full parser would be most of what an author's build of
//! this crate compiles. What it does not find, `#[qapi(crate = "..")]` can say.

use std::env;
use std::fs;
use std::path::Path;

/// The name by which the crate that is being compiled knows `package`: its own, if it is that package.
pub(crate) fn crate_name(package: &str) -> Option<String> {
    if env::var("CARGO_PKG_NAME").is_ok_and(|own| own == package) {
        return Some(package.replace('-', "_"));
    }
    let folder = env::var_os("CARGO_MANIFEST_DIR")?;
    let own = fs::read_to_string(Path::new(&folder).join("Cargo.toml")).ok()?;
    find(&own, package, |key| {
        let above =
            Path::new(&folder).ancestors().filter_map(|at| fs::read_to_string(at.join("Cargo.toml")).ok());
        above.flat_map(|manifest| dependencies(&manifest)).find(|it| it.inheritable && it.key == key)
    })
}

/// A dependency as a manifest has it.
#[derive(Debug, Default, PartialEq)]
struct Dependency {
    key: String,
    /// The package, when it is called otherwise.
    package: Option<String>,
    /// It is the workspace's, whose manifest says the rest.
    inherited: bool,
    /// It is one that members inherit.
    inheritable: bool,
}

fn find(manifest: &str, package: &str, inherit: impl Fn(&str) -> Option<Dependency>) -> Option<String> {
    let own = dependencies(manifest).into_iter().filter(|it| !it.inheritable);
    let mut named = own.map(|it| {
        let inherited = if it.inherited { inherit(&it.key) } else { None };
        let package = it.package.or(inherited.and_then(|it| it.package));
        (package.unwrap_or_else(|| it.key.clone()), it.key)
    });
    named.find(|(known, _)| known == package).map(|(_, key)| key.replace('-', "_"))
}

/// All dependencies, in order.
fn dependencies(manifest: &str) -> Vec<Dependency> {
    let mut all: Vec<Dependency> = Vec::new();
    let mut header = Vec::new();
    for statement in statements(manifest) {
        let text = statement.trim();
        if let Some(inner) = text.strip_prefix('[') {
            header = split(inner.trim_end_matches(']'), '.').iter().map(|part| unquoted(part)).collect();
            continue;
        }
        let Some((path, value)) = text.split_once('=') else { continue };
        // `[dependencies]`, or `[dependencies.key]`.
        let mut path: Vec<String> = split(path, '.').iter().map(|part| unquoted(part)).collect();
        path.splice(0..0, header.iter().cloned());
        let Some(table) = path.iter().position(|part| is_table(part)) else { continue };
        let Some(key) = path.get(table + 1).cloned() else { continue };
        let place = all.iter().position(|it| it.key == key).unwrap_or_else(|| {
            let inheritable = path[0] == "workspace";
            all.push(Dependency { key, inheritable, ..Dependency::default() });
            all.len() - 1
        });
        let dependency = &mut all[place];
        match path.get(table + 2) {
            Some(detail) => dependency.set(detail, value),
            None => {
                let inline = value.trim().trim_start_matches('{').trim_end_matches('}');
                for (detail, value) in split(inline, ',').iter().filter_map(|part| part.split_once('=')) {
                    dependency.set(&unquoted(detail), value);
                }
            }
        }
    }
    all
}

impl Dependency {
    fn set(&mut self, detail: &str, value: &str) {
        match detail {
            "package" => self.package = Some(unquoted(value)),
            "workspace" => self.inherited = value.trim() == "true",
            _ => {}
        }
    }
}

/// `dependencies`, `dev-dependencies`, `build-dependencies`.
fn is_table(part: &str) -> bool {
    part == "dependencies" || part.ends_with("-dependencies")
}

fn unquoted(text: &str) -> String {
    text.trim().trim_matches(['"', '\'']).to_owned()
}

/// The parts between separators that stand in no string and no bracket.
fn split(text: &str, separator: char) -> Vec<&str> {
    let (mut parts, mut from) = (Vec::new(), 0);
    walk(text, |at, c, depth| {
        if c == separator && depth == 0 {
            parts.push(&text[from..at]);
            from = at + c.len_utf8();
        }
        true
    });
    parts.push(&text[from..]);
    parts
}

/// Lines without comments; those that a bracket holds together are one.
fn statements(manifest: &str) -> Vec<String> {
    let (mut all, mut open) = (Vec::new(), String::new());
    // Inside a string of several lines nothing is what it looks like.
    let mut in_text = false;
    for line in manifest.lines() {
        let marks = line.matches("\"\"\"").count() + line.matches("'''").count();
        if in_text || marks > 0 {
            in_text ^= marks % 2 == 1;
            continue;
        }
        let (mut end, mut depth_at_end) = (line.len(), 0);
        walk(line, |at, c, _| {
            if c == '#' {
                end = at;
            }
            c != '#'
        });
        open.push_str(&line[..end]);
        open.push(' ');
        walk(&open, |_, c, depth| {
            depth_at_end = depth + i32::from(matches!(c, '[' | '{')) - i32::from(matches!(c, ']' | '}'));
            true
        });
        if depth_at_end <= 0 {
            all.push(std::mem::take(&mut open));
        }
    }
    all
}

/// Shows every character outside strings, with the number of brackets around it, until `look` returns `false`.
fn walk(text: &str, mut look: impl FnMut(usize, char, i32) -> bool) {
    let (mut quote, mut escaped, mut depth) = (None, false, 0);
    for (at, c) in text.char_indices() {
        match quote {
            Some(_) if escaped => escaped = false,
            Some('"') if c == '\\' => escaped = true,
            Some(mark) if c == mark => quote = None,
            Some(_) => {}
            None => {
                if !look(at, c, depth) {
                    return;
                }
                match c {
                    '"' | '\'' => quote = Some(c),
                    '[' | '{' => depth += 1,
                    ']' | '}' => depth -= 1,
                    _ => {}
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(manifest: &str) -> Option<String> {
        find(manifest, "vmm-control", |_| None)
    }

    #[test]
    fn under_its_own_name() {
        for manifest in [
            "[dependencies]\nvmm-control = \"1\"\n",
            "[dev-dependencies]\nserde = \"1\"\nvmm-control = { path = \"../x\", features = [\"hmp\"] } # ours\n",
            "[dependencies]\nvmm-control.workspace = true\n",
            "[dependencies.vmm-control]\nversion = \"1\"\n",
            "[target.'cfg(target_os = \"linux\")'.dependencies]\n\"vmm-control\" = \"1\"\n",
            "[dependencies]\nvmm-control = { version = \"1\", features = [\n  \"hmp\", # people\n] }\n",
        ] {
            assert_eq!(name(manifest).as_deref(), Some("vmm_control"), "{manifest}");
        }
    }

    #[test]
    fn under_another() {
        for manifest in [
            "[dependencies]\nplane-of-ours = { version = \"1\", package = \"vmm-control\" }\n",
            "[dependencies.plane-of-ours]\nversion = \"1\"\npackage = 'vmm-control'\n",
            "[dependencies]\nplane-of-ours.package = \"vmm-control\"\nplane-of-ours.version = \"1\"\n",
            "[dependencies]\nplane-of-ours = { features = [\n\"a\",\n], package = \"vmm-control\" }\n",
        ] {
            assert_eq!(name(manifest).as_deref(), Some("plane_of_ours"), "{manifest}");
        }
    }

    #[test]
    fn not_at_all() {
        for manifest in [
            "[package]\nname = \"vmm-control\"\n[features]\nvmm-control = []\n",
            "[dependencies]\n# vmm-control = \"1\"\nvmm-control-extras = \"1\"\n",
            "[dependencies]\nvmm-control = { package = \"other\" }\n",
            "[workspace.dependencies]\nvmm-control = \"1\"\n",
            "[package]\ndescription = \"\"\"\n[dependencies]\nvmm-control = 1\n\"\"\"\n",
            "[dependencies\nvmm-control",
            "",
        ] {
            assert_eq!(name(manifest), None, "{manifest}");
        }
    }

    #[test]
    fn renamed_by_the_workspace() {
        let root = "[workspace.dependencies]\nours = { package = \"vmm-control\", version = \"1\" }\n";
        let inherit = |key: &str| dependencies(root).into_iter().find(|it| it.inheritable && it.key == key);
        let member = "[dependencies]\nours = { workspace = true }\n";
        assert_eq!(find(member, "vmm-control", inherit).as_deref(), Some("ours"));
        assert_eq!(find("[dependencies]\nours = \"1\"\n", "vmm-control", inherit), None);
    }
}

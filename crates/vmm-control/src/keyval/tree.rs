//! The dialect with nested keys.

use qmp_protocol::{Object, Value};

use super::error::KeyvalError;

/// How many parts a key may have.
const MAX_DEPTH: usize = 32;

/// How long a part of a key may be, in bytes.
const MAX_FRAGMENT: usize = 127;

/// Takes a text apart. `implied` is the key of a first item that has no `=`. Of two items with one key the later one
/// counts. The values are strings, objects of such, and lists of such.
///
/// # Errors
/// What is wrong with the first wrong item, or with all of them together.
pub fn parse(text: &str, implied: Option<&str>) -> Result<Object, KeyvalError> {
    let mut root = Object::new();
    let mut rest = text;
    let mut implied = implied;
    while !rest.is_empty() {
        rest = item(&mut root, rest, implied.take())?;
    }
    // Itself it is never a list: a key cannot begin with an index.
    root.into_iter()
        .map(|(name, value)| {
            let path = format!("{name}.");
            listify(value, &path).map(|value| (name, value))
        })
        .collect()
}

/// Whether one of the items asks for help: `help` or `?` alone.
#[must_use]
pub fn asks_for_help(text: &str) -> bool {
    let mut rest = text;
    while !rest.is_empty() {
        let (key, after) = rest.split_at(rest.find(['=', ',']).unwrap_or(rest.len()));
        rest = match after.strip_prefix('=') {
            None if matches!(key, "help" | "?") => return true,
            None => after.strip_prefix(',').unwrap_or_default(),
            Some(value) => take_value(value).1,
        };
    }
    false
}

/// Puts the first item of `text` where its key says, and gives what follows.
fn item<'a>(root: &mut Object, text: &'a str, implied: Option<&str>) -> Result<&'a str, KeyvalError> {
    let (key, after) = text.split_at(text.find(['=', ',']).unwrap_or(text.len()));
    if let (Some(implied), false) = (implied, key.is_empty() || after.starts_with('=')) {
        put(root, implied, key.to_owned(), implied)?;
        return Ok(after.strip_prefix(',').unwrap_or(after));
    }
    let mut members = root;
    let mut start = 0;
    // The fragment before this one, and where it ends.
    let mut above: Option<(&str, usize)> = None;
    for depth in 0.. {
        let length = fragment(&key[start..], depth > 0);
        let end = start + length.ok_or_else(|| KeyvalError::InvalidKey(key.to_owned()))?;
        let (name, last) = (&key[start..end], end == key.len());
        if name.len() > MAX_FRAGMENT {
            return Err(KeyvalError::TooLong { name: name.to_owned(), fragment: depth > 0 || !last });
        }
        if depth >= MAX_DEPTH {
            return Err(KeyvalError::TooDeep(key.to_owned()));
        }
        if let Some((above, end)) = above {
            members = descend(members, above, &key[..end])?;
        }
        if last {
            let Some(after) = after.strip_prefix('=') else {
                return Err(KeyvalError::NoValue(key.to_owned()));
            };
            let (value, rest) = take_value(after);
            put(members, name, value, key)?;
            return Ok(rest);
        }
        above = Some((name, end));
        start = end + 1;
    }
    Err(KeyvalError::TooDeep(key.to_owned()))
}

/// How long the fragment is that `key` begins with: up to a dot that ends it, or the key's end. A vendor's prefix
/// (`__com.example_`) has dots of its own. Behind the first fragment it may be a list's index.
fn fragment(key: &str, index_allowed: bool) -> Option<usize> {
    let span = |from: usize, holds: fn(u8) -> bool| {
        let rest = key.as_bytes().get(from..).unwrap_or_default();
        from + rest.iter().take_while(|&&byte| holds(byte)).count()
    };
    let end = if index_allowed && key.starts_with(|c: char| c.is_ascii_digit()) {
        span(0, |byte| byte.is_ascii_digit())
    } else {
        let mut start = 0;
        if key.starts_with("__") {
            start = span(2, |byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.');
            start += usize::from(key[start..].starts_with('_'));
        }
        if !key[start..].starts_with(|c: char| c.is_ascii_alphabetic()) {
            return None;
        }
        span(start, |byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    matches!(key.as_bytes().get(end), None | Some(b'.')).then_some(end)
}

/// The members of the member `name`, which is `path` from the top.
fn descend<'m>(members: &'m mut Object, name: &str, path: &str) -> Result<&'m mut Object, KeyvalError> {
    if !members.contains_key(name) {
        members.insert(name.to_owned(), Object::new().into());
    }
    match members.get_mut(name) {
        Some(Value::Object(inner)) => Ok(inner),
        _ => Err(KeyvalError::Inconsistent(format!("{path}."))),
    }
}

/// Sets the member `name`, which is `path` from the top, to a text.
fn put(members: &mut Object, name: &str, value: String, path: &str) -> Result<(), KeyvalError> {
    match members.get_mut(name) {
        Some(old @ Value::String(_)) => *old = value.into(),
        Some(_) => return Err(KeyvalError::Inconsistent(format!("{path}."))),
        None => {
            members.insert(name.to_owned(), value.into());
        }
    }
    Ok(())
}

/// Makes lists of the objects whose members are numbered. `path` is where `value` stands, with a dot at its end.
fn listify(value: Value, path: &str) -> Result<Value, KeyvalError> {
    let Value::Object(members) = value else { return Ok(value) };
    let (mut indices, mut names) = (false, false);
    let mut done = Object::new();
    for (name, value) in members {
        *(if index(&name).is_some() { &mut indices } else { &mut names }) = true;
        let value = listify(value, &format!("{path}{name}."))?;
        done.insert(name, value);
    }
    match (indices, names) {
        (true, true) => Err(KeyvalError::Inconsistent(path.to_owned())),
        (true, false) => list(done, path),
        (false, _) => Ok(done.into()),
    }
}

/// The list whose elements are the members of an object by number.
fn list(members: Object, path: &str) -> Result<Value, KeyvalError> {
    let mut elements: Vec<Option<Value>> = vec![None; members.len()];
    for (name, value) in members {
        // `a.1` and `a.01` are one element. A number that is too large leaves a gap before it.
        if let Some(element) = index(&name).and_then(|place| elements.get_mut(place)) {
            *element = Some(value);
        }
    }
    match elements.iter().position(Option::is_none) {
        Some(gap) => Err(KeyvalError::MissingElement(format!("{path}{gap}"))),
        None => Ok(Value::Array(elements.into_iter().flatten().collect())),
    }
}

/// A list's index.
fn index(text: &str) -> Option<usize> {
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse::<i32>().ok().and_then(|index| usize::try_from(index).ok())
}

/// The value that `text` begins with, its double commas made single, and what follows its comma.
///
/// ```
/// assert_eq!(vmm_control::keyval::take_value("a,,b,c=d"), ("a,b".to_owned(), "c=d"));
/// ```
#[must_use]
pub fn take_value(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut rest = text;
    loop {
        let Some(comma) = rest.find(',') else {
            value.push_str(rest);
            return (value, "");
        };
        value.push_str(&rest[..comma]);
        rest = &rest[comma + 1..];
        match rest.strip_prefix(',') {
            Some(next) => {
                value.push(',');
                rest = next;
            }
            None => return (value, rest),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shown(value: &Value) -> String {
        match value {
            Value::Object(members) => {
                let members: Vec<_> = members.iter().map(|(k, v)| format!("{k}:{}", shown(v))).collect();
                format!("{{{}}}", members.join(" "))
            }
            Value::Array(list) => format!("[{}]", list.iter().map(shown).collect::<Vec<_>>().join(" ")),
            text => text.as_str().unwrap().to_owned(),
        }
    }

    fn parsed(text: &str) -> Result<String, String> {
        parse(text, Some("type")).map(|object| shown(&object.into())).map_err(|error| error.to_string())
    }

    #[test]
    fn items() {
        for (text, tree) in [
            ("", "{}"),
            ("a", "{type:a}"),
            ("a,id=b", "{type:a id:b}"),
            ("id=b,type=a", "{id:b type:a}"),
            ("a,id=b,id=c", "{type:a id:c}"),
            ("a,id=b,", "{type:a id:b}"),
            ("a,id=b,,c", "{type:a id:b,c}"),
            ("a,id=b,,", "{type:a id:b,}"),
            ("a,id=", "{type:a id:}"),
            ("a,id=b=c", "{type:a id:b=c}"),
            ("\"a,id=b", "{type:\"a id:b}"),
            ("a,x.y=1,x.z=2", "{type:a x:{y:1 z:2}}"),
            ("a,x.0=1,x.1=2", "{type:a x:[1 2]}"),
            ("a,x.1=2,x.0.y=1", "{type:a x:[{y:1} 2]}"),
            ("a,x.00=1", "{type:a x:[1]}"),
            ("a,__com.example_x.y=1", "{type:a __com.example_x:{y:1}}"),
        ] {
            assert_eq!(parsed(text), Ok(tree.to_owned()), "{text}");
        }
    }

    #[test]
    fn errors_are_qemus() {
        for (text, error) in [
            ("a,id", "Expected '=' after parameter 'id'"),
            ("a,,id=x", "Invalid parameter ''"),
            ("=x", "Invalid parameter ''"),
            ("a,=x", "Invalid parameter ''"),
            ("a,1x=1", "Invalid parameter '1x'"),
            ("a,x.=1", "Invalid parameter 'x.'"),
            ("a,-x=1", "Invalid parameter '-x'"),
            ("a,'id':'b'", "Invalid parameter ''id':'b''"),
            ("a,x=1,x.y=2", "Parameters 'x.*' used inconsistently"),
            ("a,x.y=2,x=1", "Parameters 'x.*' used inconsistently"),
            ("a,x.y=2,x.0=1", "Parameters 'x.*' used inconsistently"),
            ("a,x.1=2", "Parameter 'x.0' missing"),
            ("a,x.0=1,x.5=2", "Parameter 'x.1' missing"),
            ("a,x.0=1,x.00=2", "Parameter 'x.1' missing"),
            ("a,x.0y=1", "Invalid parameter 'x.0y'"),
            ("a,x=1,x.0y=1", "Invalid parameter 'x.0y'"),
            ("a,x y=1", "Invalid parameter 'x y'"),
            ("a,é=1", "Invalid parameter 'é'"),
            ("a,__é=1", "Invalid parameter '__é'"),
        ] {
            assert_eq!(parsed(text), Err(error.to_owned()), "{text}");
        }
        assert!(parsed(&format!("a,{}=1", "x".repeat(128))).unwrap_err().starts_with("Parameter 'xxx"));
        assert!(parsed(&format!("a,{}x=1", "x.".repeat(100_000))).unwrap_err().ends_with("too deeply"));
    }

    #[test]
    fn help_is_a_word_of_its_own() {
        for text in ["help", "?", "a,help", "a,id=b,?", "a,x=1,help,y=2"] {
            assert!(asks_for_help(text), "{text}");
        }
        for text in ["", "a", "a,help=1", "?=1", "a,id=help", "a,id=x,,help", "helper"] {
            assert!(!asks_for_help(text), "{text}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(text in "[a-c.0-2=,?é]{0,40}") {
            let _ = parse(&text, Some("type"));
            let _ = asks_for_help(&text);
        }
    }
}

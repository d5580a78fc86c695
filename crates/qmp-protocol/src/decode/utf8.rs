//! UTF-8 by QEMU's rules, which are stricter than Rust's in one way and laxer in another: the non-characters
//! (U+FDD0 to U+FDEF, and the last two of each plane) are refused, and the overlong `C0 80` is U+0000.

/// True for a code point that QEMU accepts and that is a `char`.
pub(super) fn is_valid(code: u32) -> bool {
    char::from_u32(code).is_some() && !(0xFDD0..=0xFDEF).contains(&code) && code & 0xFFFE != 0xFFFE
}

/// The character that begins `bytes`, which must not be empty, or `None` for a bad one; and how many bytes it takes.
///
/// A bad sequence takes its first byte and all continuation bytes that this byte calls for, as far as they are there.
pub(super) fn decode(bytes: &[u8]) -> (Option<char>, usize) {
    let Some((&first, rest)) = bytes.split_first() else { return (None, 0) };
    let wanted = match first.leading_ones() {
        0 => return (Some(char::from(first)), 1),
        ones @ 2..=6 => ones as usize - 1,
        _ => return (None, 1),
    };
    let tail = rest.iter().take(wanted).take_while(|&&byte| byte & 0xC0 == 0x80);
    let (code, found) = tail.fold((u32::from(first & (0x3F >> wanted)), 0), |(code, found), &byte| {
        (code << 6 | u32::from(byte & 0x3F), found + 1)
    });
    let len = 1 + found;
    let least = [0x80, 0x800, 0x1_0000][(wanted - 1).min(2)];
    let overlong = code < least && !(code == 0 && wanted == 1);
    let bad = found < wanted || wanted > 3 || overlong || !is_valid(code);
    (if bad { None } else { char::from_u32(code) }, len)
}

/// `bytes` as text, with U+FFFD for each bad sequence.
pub(super) fn lossy(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    let mut rest = bytes;
    while !rest.is_empty() {
        let (character, len) = decode(rest);
        text.push(character.unwrap_or(char::REPLACEMENT_CHARACTER));
        rest = &rest[len..];
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn valid_characters_take_their_own_length() {
        for character in
            ['a', '\u{7f}', '\u{80}', '\u{7ff}', '\u{800}', '\u{d7ff}', '\u{fffd}', '\u{10000}', '\u{10fffd}']
        {
            let text = format!("{character}tail");
            assert_eq!(decode(text.as_bytes()), (Some(character), character.len_utf8()));
        }
        assert_eq!(decode(b"\xC0\x80"), (Some('\0'), 2));
    }

    #[test]
    fn bad_sequences_count_once() {
        for (bytes, len) in [
            (&b"\x80"[..], 1),
            (b"\xC3\"", 1),
            (b"\xE4\xB8\"", 2),
            (b"\xC1\x81", 2),
            (b"\xE0\x9F\xBF", 3),
            (b"\xED\xA0\x80", 3),
            (b"\xEF\xBF\xBE", 3),
            (b"\xEF\xB7\x90", 3),
            (b"\xF0\x8F\xBF\xBF", 4),
            (b"\xF4\x8F\xBF\xBF", 4),
            (b"\xF4\x90\x80\x80", 4),
            (b"\xF8\x88\x80\x80\x80", 5),
            (b"\xFC\x84\x80\x80\x80\x80", 6),
            (b"\xFD\xBF\xBF\xBF\xBF\xBF", 6),
            (b"\xFE", 1),
            (b"\xFF\xFF", 1),
        ] {
            assert_eq!(decode(bytes), (None, len), "{bytes:02X?}");
        }
    }

    #[test]
    fn lossy_text_has_one_mark_per_bad_sequence() {
        assert_eq!(lossy(b"a\xE4\xB8\xFFb\xC0\x80"), "a\u{fffd}\u{fffd}b\0");
    }
}

//! Whether what a client sends first is a person's, or a browser's.
//!
//! Any page can make a browser send an HTTP request to a port of its user's own machine, with a body of the page's choice:
//! `quit`, on a line of its own. So can an address that begins with `https:` make it send a TLS handshake, into which
//! others may have put text. Neither begins like something that a person or a script would type.

use super::editor::LINE_MAX;

/// The first byte of a TLS handshake: the type of its record.
const HANDSHAKE: u8 = 0x16;

/// What has been seen of the first line that is not blank.
#[derive(Debug, Default)]
pub(super) struct Beginning {
    line: Vec<u8>,
}

/// What the beginning is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// It goes on.
    Nothing,
    /// A line of somebody's who may stay.
    Line,
    /// An HTTP request, a TLS handshake, or a line that is longer than any line can be.
    Foreign,
}

impl Beginning {
    /// Looks at what has come.
    pub(super) fn see(&mut self, bytes: &[u8]) -> Seen {
        for byte in bytes {
            match byte {
                // A NUL is what frames of other protocols begin with, which a page can put a request behind.
                b'\r' | b'\n' | 0 if self.line.trim_ascii().is_empty() => self.line.clear(),
                b'\r' | b'\n' | 0 if is_request_line(&self.line) => return Seen::Foreign,
                b'\r' | b'\n' | 0 => return Seen::Line,
                _ => self.line.push(*byte),
            }
            if self.line.first() == Some(&HANDSHAKE) || self.line.len() > LINE_MAX {
                return Seen::Foreign;
            }
        }
        Seen::Nothing
    }
}

/// Whether a line is `METHOD TARGET HTTP/x.y`, as RFC 9112 has it, the method in any case.
fn is_request_line(line: &[u8]) -> bool {
    let line = line.trim_ascii();
    let Some(first) = line.iter().position(|byte| *byte == b' ') else { return false };
    let Some(last) = line.iter().rposition(|byte| *byte == b' ') else { return false };
    let (method, version) = (&line[..first], &line[last + 1..]);
    let token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    let version_is_http = version.len() >= 5 && version[..5].eq_ignore_ascii_case(b"HTTP/");
    first > 0 && first < last && method.iter().all(token) && version_is_http
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is seen, in pieces of any size.
    fn seen(input: &[u8]) -> Seen {
        let whole = Beginning::default().see(input);
        for size in 1..input.len().min(20) {
            let mut beginning = Beginning::default();
            let mut pieces = input.chunks(size).map(|piece| beginning.see(piece));
            assert_eq!(pieces.find(|seen| *seen != Seen::Nothing).unwrap_or(Seen::Nothing), whole, "{size}");
        }
        whole
    }

    #[test]
    fn browsers_are_told_from_people() {
        for foreign in [
            &b"GET / HTTP/1.1\r\nHost: x\r\n"[..],
            b"POST / HTTP/1.0\n\nquit\n",
            b"\r\nPOST /%0aquit HTTP/1.1\r\n",
            b"PRI * HTTP/2.0\r\n",
            b"x /info status HTTP/1.1 \r\n",
            b"\0POST / HTTP/1.1\r\n",
            b"\0\0 \r\n\tPOST / HTTP/1.1\r\nquit\r\n",
            b"\x16\x03\x01",
        ] {
            assert_eq!(seen(foreign), Seen::Foreign, "{}", foreign.escape_ascii());
        }
        for line in [
            " info status\n",
            "\0quit\r",
            "quit\r",
            "help info\0",
            "o /w 0x501 1\n",
            "GET\n",
            "\n\nstop\n",
            "get / x\n",
        ] {
            assert_eq!(seen(line.as_bytes()), Seen::Line, "{line}");
        }
        for more in [&b""[..], b"GET / HTTP/1.1", b"\r\n\r\n", b"inf\x16"] {
            assert_eq!(seen(more), Seen::Nothing, "{}", more.escape_ascii());
        }
    }

    /// A line editor would drop what is too much, and with it the end that tells what the line is.
    #[test]
    fn a_target_of_any_length() {
        let mut request = b"POST /".to_vec();
        request.resize(LINE_MAX + 100, b'a');
        request.extend_from_slice(b" HTTP/1.1\r\n\r\nquit\r\n");
        assert_eq!(seen(&request), Seen::Foreign);
    }
}

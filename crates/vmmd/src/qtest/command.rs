//! What a request means, and what is answered.

use vmm_control::{IoPorts, Machine};

use crate::board::Board;

/// Requests that QEMU takes and this machine cannot serve, and why.
const ABSENT: &[(&[&str], &str)] = &[
    (&["readb", "readw", "readl", "readq", "read", "b64read"], "no CPU runs that could read memory"),
    (
        &["writeb", "writew", "writel", "writeq", "write", "b64write", "memset"],
        "no CPU runs that could write memory",
    ),
    (&["irq_intercept_in", "irq_intercept_out", "set_irq_in"], "there are no interrupt lines"),
    (&["module_load"], "there are no modules"),
];

/// Answers a request, without its end of line; the answer has none either.
///
/// Numbers are those of C: decimal, `0x` hexadecimal, `0` octal.
pub(super) fn answer(line: &str, board: &Board) -> String {
    match run(line, board) {
        Ok(answer) => answer,
        Err(reason) => format!("FAIL {reason}"),
    }
}

fn run(line: &str, board: &Board) -> Result<String, String> {
    let mut words = line.split(' ');
    let name = words.next().unwrap_or_default();
    let arguments: Vec<&str> = words.collect();
    match (name, arguments.as_slice()) {
        ("endianness", _) => Ok("OK little".to_owned()),
        ("outb" | "outw" | "outl", [port, value, ..]) => {
            let (port, value) = (port_number(port)?, number(value)?);
            // As many bytes as the command says are taken, from the lowest on.
            let low = u32::try_from(value & 0xffff_ffff).unwrap_or_default();
            ports(board)?.write(port, width(name), low);
            Ok("OK".to_owned())
        }
        ("inb" | "inw" | "inl", [port, ..]) => {
            let value = ports(board)?.read(port_number(port)?, width(name));
            Ok(format!("OK {value:#06x}"))
        }
        ("outb" | "outw" | "outl", _) => Err(format!("{name} takes a port and a value")),
        ("inb" | "inw" | "inl", _) => Err(format!("{name} takes a port")),
        ("clock_step" | "clock_set", _) if board.clock().is_driven() => clock(name, &arguments, board),
        _ => match ABSENT.iter().find(|(names, _)| names.contains(&name)) {
            Some((_, reason)) => Err((*reason).to_owned()),
            None => Err(format!("Unknown command '{name}'")),
        },
    }
}

/// No timer waits for the guest's clock, so a step to the next one is a step of nothing.
fn clock(name: &str, arguments: &[&str], board: &Board) -> Result<String, String> {
    let nanoseconds = match arguments {
        [text, ..] => i64::try_from(number(text)?).map_err(|_| format!("'{text}' is too far away"))?,
        [] if name == "clock_step" => 0,
        [] => return Err("clock_set takes nanoseconds".to_owned()),
    };
    let clock = board.clock();
    let start = if name == "clock_step" { clock.now() } else { 0 };
    Ok(format!("OK {}", clock.advance_to(start.saturating_add(nanoseconds))))
}

fn ports(board: &Board) -> Result<std::sync::Arc<dyn IoPorts>, String> {
    board.io_ports().ok_or_else(|| "this machine has no I/O ports".to_owned())
}

/// The bytes of an access, by the last letter of its command.
fn width(name: &str) -> u8 {
    match name.as_bytes().last() {
        Some(b'b') => 1,
        Some(b'w') => 2,
        _ => 4,
    }
}

fn port_number(text: &str) -> Result<u16, String> {
    u16::try_from(number(text)?).map_err(|_| format!("there is no I/O port {text}"))
}

fn number(text: &str) -> Result<u64, String> {
    let (radix, digits) = match text.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, &text[2..]),
        [b'0', _, ..] => (8, &text[1..]),
        _ => (10, text),
    };
    let valid = !digits.starts_with('+');
    u64::from_str_radix(digits, radix).ok().filter(|_| valid).ok_or_else(|| format!("'{text}' is no number"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    async fn board(accel: &str) -> Board {
        let mut config = Config { start_paused: true, ..Config::default() };
        config.machine.accel = vec![accel.to_owned()];
        let board = Board::new(&config);
        board.create().await.unwrap();
        board
    }

    #[tokio::test]
    async fn ports_are_read_and_written() {
        let board = board("qtest").await;
        let answer = |line: &str| answer(line, &board);
        assert_eq!(answer("endianness"), "OK little");
        assert_eq!(answer("outb 0x70 0x0d"), "OK");
        assert_eq!(answer("inb 0x71"), "OK 0x0080");
        assert_eq!(answer("inb 113"), "OK 0x0080");
        assert_eq!(answer("inb 0161"), "OK 0x0080");
        assert_eq!(answer("inl 0x71"), "OK 0xffffff80");
        assert_eq!(answer("inw 0x1000"), "OK 0xffff");
        assert_eq!(answer("outl 0x1000 0xffffffffffffffff"), "OK");
    }

    #[tokio::test]
    async fn a_test_moves_the_clock() {
        let driven = board("qtest").await;
        assert_eq!(answer("clock_step 1000", &driven), "OK 1000");
        assert_eq!(answer("clock_step", &driven), "OK 1000");
        assert_eq!(answer("clock_set 500", &driven), "OK 1000");
        assert_eq!(answer("clock_set 0x1000", &driven), "OK 4096");
        assert_eq!(answer("clock_set", &driven), "FAIL clock_set takes nanoseconds");
        let other = board("tcg").await;
        assert_eq!(answer("clock_step 1000", &other), "FAIL Unknown command 'clock_step'");
    }

    #[tokio::test]
    async fn what_there_is_not_fails_with_a_reason() {
        let board = board("qtest").await;
        for (line, answered) in [
            ("", "FAIL Unknown command ''"),
            ("nope 1 2", "FAIL Unknown command 'nope'"),
            ("outb 0x70", "FAIL outb takes a port and a value"),
            ("inb", "FAIL inb takes a port"),
            ("inb x", "FAIL 'x' is no number"),
            ("inb +1", "FAIL '+1' is no number"),
            ("inb 65536", "FAIL there is no I/O port 65536"),
            ("readb 0", "FAIL no CPU runs that could read memory"),
            ("irq_intercept_in ioapic", "FAIL there are no interrupt lines"),
        ] {
            assert_eq!(answer(line, &board), answered, "{line}");
        }
        let none = Board::new(&Config::default());
        assert_eq!(answer("inb 0x71", &none), "FAIL this machine has no I/O ports");
    }
}

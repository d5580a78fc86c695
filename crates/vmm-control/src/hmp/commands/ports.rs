//! Expressions, and the I/O ports that they address.

use std::sync::Arc;

use qmp_command::{CommandError, CommandResult};

use crate::hardware::IoPorts;
use crate::hmp::format::padded_hexadecimal;
use crate::hmp::{HumanArg, HumanArgs, HumanCommand, HumanContext};

pub(super) fn commands() -> Vec<HumanCommand> {
    vec![
        HumanCommand::new("print|p")
            .arg(HumanArg::format("fmt"))
            .arg(HumanArg::long("val"))
            .params("/fmt expr")
            .help("show what an expression comes to")
            .read_only()
            .immediate(|_, args| {
                Ok(format!("{}\n", args.format("fmt").show(args.number("val").unwrap_or_default())))
            }),
        HumanCommand::new("i")
            .arg(HumanArg::format("fmt"))
            .arg(HumanArg::integer("addr"))
            .arg(HumanArg::integer("index").after_dot())
            .params("/fmt addr[.index]")
            .help("read an I/O port (.index: write that to it first, and read the next one)")
            .immediate(|context, args| read(&context, &args)),
        HumanCommand::new("o")
            .arg(HumanArg::format("fmt"))
            .arg(HumanArg::integer("addr"))
            .arg(HumanArg::integer("val"))
            .params("/fmt addr value")
            .help("write an I/O port")
            .immediate(|context, args| {
                ports(&context)?.write(port(&args), width(&args), low_32(args.number("val")));
                Ok(String::new())
            }),
    ]
}

fn ports(context: &HumanContext) -> CommandResult<Arc<dyn IoPorts>> {
    let ports = context.human().plane().machine.io_ports();
    ports.ok_or_else(|| CommandError::generic("this machine has no I/O ports"))
}

/// The address: its low 16 bits.
fn port(args: &HumanArgs) -> u16 {
    #[expect(clippy::cast_possible_truncation, reason = "there are no more ports")]
    let port = low_32(args.number("addr")) as u16;
    port
}

/// A number that was read as 32 bits.
fn low_32(number: Option<i64>) -> u32 {
    number.and_then(|number| u32::try_from(number).ok()).unwrap_or_default()
}

/// How many bytes are accessed: 1 for what a port cannot do.
fn width(args: &HumanArgs) -> u8 {
    args.format("fmt").size.filter(|size| matches!(size, 2 | 4)).unwrap_or(1)
}

fn read(context: &HumanContext, args: &HumanArgs) -> CommandResult<String> {
    let (ports, mut port, width) = (ports(context)?, port(args), width(args));
    if let Some(index) = args.number("index") {
        ports.write(port, 1, low_32(Some(index)) & 0xff);
        port = port.wrapping_add(1);
    }
    let value = ports.read(port, width);
    let suffix = match width {
        1 => 'b',
        2 => 'w',
        _ => 'l',
    };
    let digits = 2 * usize::from(args.format("fmt").size.unwrap_or(0));
    Ok(format!("port{suffix}[{port:#06x}] = {}\n", padded_hexadecimal(value, digits)))
}

//! `-smp`, `-m`, `-uuid`, `-rtc`: what the board is made of.

use super::keyval::Pair;
use super::parse::Given;
use super::simple::pairs;
use crate::config::{Draft, MemorySize, RtcBase, RtcClock, SmpSpec, parse_size, parse_uuid};
use crate::error::{ConfigError, ErrorKind};

const MIB: u64 = 1 << 20;

/// `-smp [cpus=]N[,maxcpus=N][,sockets=N][,cores=N][,threads=N]`.
pub(super) fn smp(item: &Given, draft: &mut Draft) -> Result<(), ConfigError> {
    let mut spec = SmpSpec::default();
    for pair in pairs(item, Some("cpus"), draft) {
        let place = match pair.key.as_str() {
            "cpus" => &mut spec.cpus,
            "maxcpus" => &mut spec.maxcpus,
            "sockets" => &mut spec.sockets,
            "dies" => &mut spec.dies,
            "clusters" => &mut spec.clusters,
            "cores" => &mut spec.cores,
            "threads" => &mut spec.threads,
            other => {
                let known = ["cpus", "maxcpus", "sockets", "cores", "threads"];
                return Err(
                    ConfigError::new(ErrorKind::Unexpected(format!("smp.{other}"))).near(other, "", known)
                );
            }
        };
        let wrong = || ErrorKind::Expects { name: format!("smp.{}", pair.key), expected: "integer" };
        *place = Some(pair.number().map_err(|_| wrong())?);
    }
    draft.smp(spec, &item.origin);
    Ok(())
}

/// `-m [size=]SIZE[K|M|G|T]`. `maxmem=` may say the same size: there are no slots to plug more into.
pub(super) fn memory(item: &Given, draft: &mut Draft) -> Result<(), ConfigError> {
    let (mut size, mut max, mut slots) = (None, None, 0);
    for pair in pairs(item, Some("size"), draft) {
        match pair.key.as_str() {
            "size" => size = Some(parse_size("size", &pair.value, MIB)?),
            "maxmem" => max = Some(parse_size("maxmem", &pair.value, 1)?),
            "slots" => slots = pair.number()?,
            _ => return Err(pair.unknown(&["size", "maxmem", "slots"])),
        }
    }
    let size = size.map_or(draft.config.machine.memory, MemorySize::new);
    match max {
        Some(max) if max < size.bytes() => return Err(ErrorKind::Maxmem { max, size: size.bytes() }.into()),
        Some(max) if max > size.bytes() || slots != 0 => {
            return Err(ErrorKind::NotOffered("memory cannot be plugged into a running machine").into());
        }
        None if slots != 0 => return Err(ErrorKind::SlotsAlone.into()),
        _ => {}
    }
    draft.config.machine.memory = size;
    Ok(())
}

/// `-uuid UUID`.
pub(super) fn uuid(item: &Given, draft: &mut Draft) -> Result<(), ConfigError> {
    draft.config.machine.uuid = parse_uuid(&item.value)?;
    Ok(())
}

/// `-rtc [base=utc|localtime|DATE][,clock=host|rt|vm][,driftfix=none|slew]`.
pub(super) fn rtc(item: &Given, draft: &mut Draft) -> Result<(), ConfigError> {
    for pair in pairs(item, None, draft) {
        let Pair { key, value, .. } = &pair;
        match key.as_str() {
            "base" => draft.config.machine.rtc.base = RtcBase::parse(value)?,
            "clock" => draft.config.machine.rtc.clock = RtcClock::parse(value)?,
            // No guest gets interrupts that could be late.
            "driftfix" if matches!(value.as_str(), "none" | "slew") => {}
            "driftfix" => return Err(ErrorKind::OptionValue(value.clone()).into()),
            _ => return Err(pair.unknown(&["base", "clock", "driftfix"])),
        }
    }
    Ok(())
}

//! `DEVICE_SET_IRQS`: its many combinations, checked.

use fd_closer::Received;
use rustix::io::Errno;

use super::header::u32_at;
use super::info::Answer;
use super::{IrqAction, IrqData, IrqIndex, MAX_MESSAGE_FDS, SetIrqs, Target};

const FIXED: usize = 20;
/// `VFIO_IRQ_SET_*`.
const DATA_NONE: u32 = 1;
const DATA_BOOL: u32 = 2;
const DATA_EVENTFD: u32 = 4;
const DATA: u32 = 7;
const ACTION_MASK: u32 = 8;
const ACTION_UNMASK: u32 = 16;
const ACTION_TRIGGER: u32 = 32;

/// `DEVICE_SET_IRQS`.
pub(super) fn set<T: Target + ?Sized>(
    target: &mut T,
    payload: &[u8],
    fds: Vec<Received>,
) -> Result<Answer, Errno> {
    // What clients say with `argsz` differs: with or without data, with or without the header.
    if payload.len() < FIXED || (u32_at(payload, 0) as usize) < FIXED {
        return Err(Errno::INVAL);
    }
    let index = index(target, u32_at(payload, 8))?;
    let available = target.irq_info(index as u32).count;
    let command = parse(index, available, payload, fds)?;
    target.set_irqs(command).map(|()| Answer::default())
}

fn index<T: Target + ?Sized>(target: &T, index: u32) -> Result<IrqIndex, Errno> {
    if index >= target.device_info().irqs {
        return Err(Errno::INVAL);
    }
    match index {
        0 => Ok(IrqIndex::Intx),
        1 => Ok(IrqIndex::Msi),
        2 => Ok(IrqIndex::Msix),
        3 => Ok(IrqIndex::Err),
        4 => Ok(IrqIndex::Req),
        _ => Err(Errno::INVAL),
    }
}

/// The command, for an index that has `available` vectors.
fn parse(index: IrqIndex, available: u32, payload: &[u8], fds: Vec<Received>) -> Result<SetIrqs<'_>, Errno> {
    let (flags, start, count) = (u32_at(payload, 4), u32_at(payload, 12), u32_at(payload, 16));
    let data = &payload[FIXED..];
    let action = match flags & !DATA {
        ACTION_TRIGGER => IrqAction::Trigger,
        ACTION_MASK => IrqAction::Mask,
        ACTION_UNMASK => IrqAction::Unmask,
        _ => return Err(Errno::INVAL),
    };
    let kind = flags & DATA;
    if start >= available || start.saturating_add(count) > available {
        return Err(Errno::INVAL);
    }
    if count == 0 && (kind, action, start) != (DATA_NONE, IrqAction::Trigger, 0) {
        return Err(Errno::INVAL);
    }
    if matches!(index, IrqIndex::Err | IrqIndex::Req) && (action != IrqAction::Trigger || count > 1) {
        return Err(Errno::INVAL);
    }
    let data = match kind {
        DATA_NONE if data.is_empty() => IrqData::None,
        DATA_BOOL if data.len() == count as usize => IrqData::Bool(data),
        DATA_EVENTFD if data.is_empty() && eventfds_fit(fds.len(), count) => IrqData::Eventfds(fds),
        _ => return Err(Errno::INVAL),
    };
    Ok(SetIrqs { index, start, count, action, data })
}

/// One for each vector, or none at all.
fn eventfds_fit(fds: usize, count: u32) -> bool {
    fds == 0 || (fds == count as usize && fds <= MAX_MESSAGE_FDS)
}

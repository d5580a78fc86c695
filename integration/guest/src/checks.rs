//! What is asked of the device, one check each. A check says what it saw, or what is wrong.

use std::fmt::Display;

use crate::edu::{
    COMPUTING, DMA_DONE, Direction, Edu, FACTORIAL, FACTORIAL_DONE, FACTORIAL_INTERRUPT, ID,
    INTERRUPT_ACKNOWLEDGE, INTERRUPT_RAISE, INTERRUPT_STATUS, LIMIT, LIVENESS, STATUS,
};
use crate::mapping::{PAGE, Page};
use crate::pci::Intx;

type Outcome = Result<String, String>;

/// A check, and what it is called.
type Check = (&'static str, fn(&mut Edu) -> Outcome);

/// All of them, in the order in which they are made.
pub(crate) const CHECKS: &[Check] = &[
    ("id", id),
    ("liveness", liveness),
    ("factorial", factorial),
    ("dma", dma_there_and_back),
    ("dma of a part", dma_of_a_part),
    ("intx", intx),
    ("intx after a factorial", intx_after_a_factorial),
    ("intx after a transfer", intx_after_a_transfer),
    ("msi", msi),
    ("intx after msi", intx),
];

fn text(e: impl Display) -> String {
    e.to_string()
}

fn expect(what: &str, got: u32, wanted: u32) -> Result<(), String> {
    if got == wanted { Ok(()) } else { Err(format!("{what} is {got:#010x}, not {wanted:#010x}")) }
}

fn id(edu: &mut Edu) -> Outcome {
    let id = edu.read(ID);
    expect("the lower half", id & 0xffff, 0x00ed)?;
    expect("the version", id >> 16, 0x0100)?;
    Ok(format!("{id:#010x}"))
}

fn liveness(edu: &mut Edu) -> Outcome {
    for value in [0x1234_5678, 0, u32::MAX, 0x8000_0001] {
        edu.write(LIVENESS, value);
        expect("what comes back", edu.read(LIVENESS), !value)?;
    }
    Ok("4 values came back inverted".to_owned())
}

fn factorial(edu: &mut Edu) -> Outcome {
    for (n, wanted) in
        [(0, 1), (1, 1), (5, 120), (10, 3_628_800), (12, 479_001_600), (13, 1_932_053_504), (40, 0)]
    {
        edu.write(FACTORIAL, n);
        edu.until("the end of the computation", |edu| edu.read(STATUS) & COMPUTING == 0)?;
        expect(&format!("{n}!"), edu.read(FACTORIAL), wanted)?;
    }
    expect("the interrupt status", edu.read(INTERRUPT_STATUS), 0)?;
    Ok("7 values, modulo 2^32".to_owned())
}

/// Bytes that repeat after no power of two, so that a shift by any of these shows.
fn pattern(seed: usize) -> Vec<u8> {
    (0..PAGE).map(|at| u8::try_from((at * 7 + seed) % 251).unwrap_or_default()).collect()
}

fn transfer(edu: &Edu, direction: Direction, page: &Page, count: usize) -> Result<(), String> {
    edu.start_dma(direction, page.address(), count, false);
    edu.until("the end of the transfer", |edu| !edu.dma_runs())
}

fn same(got: &[u8], wanted: &[u8]) -> Result<(), String> {
    match got.iter().zip(wanted).position(|(a, b)| a != b) {
        None => Ok(()),
        Some(at) => Err(format!("byte {at} is {:#04x}, not {:#04x}", got[at], wanted[at])),
    }
}

fn dma_there_and_back(edu: &mut Edu) -> Outcome {
    let (from, to) = (Page::filled(0).map_err(text)?, Page::filled(0xee).map_err(text)?);
    for seed in [3, 100] {
        let bytes = pattern(seed);
        from.put(&bytes);
        transfer(edu, Direction::ToDevice, &from, PAGE)?;
        transfer(edu, Direction::ToMemory, &to, PAGE)?;
        same(&to.bytes(), &bytes)?;
    }
    Ok(format!("{PAGE} bytes from {:#x} and to {:#x}, twice", from.address(), to.address()))
}

fn dma_of_a_part(edu: &mut Edu) -> Outcome {
    const COUNT: usize = 101;
    let (from, to) = (Page::filled(0).map_err(text)?, Page::filled(0xee).map_err(text)?);
    let bytes = pattern(55);
    from.put(&bytes);
    transfer(edu, Direction::ToDevice, &from, COUNT)?;
    transfer(edu, Direction::ToMemory, &to, COUNT)?;
    let mut wanted = vec![0xee; PAGE];
    wanted[..COUNT].copy_from_slice(&bytes[..COUNT]);
    same(&to.bytes(), &wanted)?;
    Ok(format!("{COUNT} bytes, and those behind them stay"))
}

/// Waits for INTx, checks what raised it, acknowledges it.
fn take_intx(edu: &mut Edu, raised_by: u32) -> Result<u32, String> {
    let count = edu.intx.wait(LIMIT).map_err(text)?.ok_or("no interrupt")?;
    if !edu.function.asserts_intx().map_err(text)? {
        return Err("the PCI status register does not show INTx".to_owned());
    }
    expect("the interrupt status", edu.read(INTERRUPT_STATUS), raised_by)?;
    edu.write(INTERRUPT_ACKNOWLEDGE, raised_by);
    expect("the interrupt status after the acknowledgement", edu.read(INTERRUPT_STATUS), 0)?;
    if edu.function.asserts_intx().map_err(text)? {
        return Err("the PCI status register still shows INTx".to_owned());
    }
    edu.function.unmask_intx().map_err(text)?;
    Ok(count)
}

fn intx(edu: &mut Edu) -> Outcome {
    // One raised early may make the line twitch once; a line that stays up makes thousands.
    const SPARE: u64 = 20;
    let before = Intx::taken().map_err(text)?;
    let counts: Vec<u32> = [0x1, 0x8000_0010, 0x2]
        .into_iter()
        .map(|bits| {
            edu.write(INTERRUPT_RAISE, bits);
            take_intx(edu, bits)
        })
        .collect::<Result<_, _>>()?;
    let taken = Intx::taken().map_err(text)? - before;
    if !counts.windows(2).all(|pair| pair[1] == pair[0] + 1) {
        return Err(format!("3 were raised, and these came: {counts:?}"));
    }
    if !(3..=3 + SPARE).contains(&taken) {
        return Err(format!("3 were raised, and the processor took {taken}"));
    }
    Ok(format!("3 raised, 3 came; the processor took {taken}"))
}

fn intx_after_a_factorial(edu: &mut Edu) -> Outcome {
    edu.write(STATUS, FACTORIAL_INTERRUPT);
    edu.write(FACTORIAL, 6);
    let taken = take_intx(edu, FACTORIAL_DONE);
    edu.write(STATUS, 0);
    taken?;
    expect("6!", edu.read(FACTORIAL), 720)?;
    Ok("with the result there".to_owned())
}

fn intx_after_a_transfer(edu: &mut Edu) -> Outcome {
    let page = Page::filled(0x5a).map_err(text)?;
    edu.start_dma(Direction::ToDevice, page.address(), 16, true);
    take_intx(edu, DMA_DONE)?;
    if edu.dma_runs() {
        return Err("the transfer still runs".to_owned());
    }
    Ok("with the transfer done".to_owned())
}

/// An MSI is a write of a word that the system chose to an address that it chose. No driver of the guest's kernel takes
/// one from a device that it does not know; so we aim it at a page of our own and see the word arrive.
fn msi(edu: &mut Edu) -> Outcome {
    const MSI: u8 = 0x05;
    const ENABLE: u16 = 1;
    const WIDE: u16 = 1 << 7;
    let at = edu.function.capability(MSI).map_err(text)?.ok_or("there is no MSI capability")?;
    let control = edu.function.word(at + 2).map_err(text)?;
    if control & WIDE == 0 {
        return Err("it takes no 64-bit address".to_owned());
    }
    let page = Page::filled(0).map_err(text)?;
    let aim = || {
        edu.function.set_dword(at + 4, (page.address() & 0xffff_ffff) as u32)?;
        edu.function.set_dword(at + 8, (page.address() >> 32) as u32)?;
        edu.function.set_word(at + 12, 0x4d53)?;
        edu.function.set_word(at + 2, control | ENABLE)
    };
    aim().map_err(text)?;
    let taken = take_msis(edu, &page);
    edu.function.set_word(at + 2, control & !ENABLE).map_err(text)?;
    taken?;
    Ok("3 raised, 3 came".to_owned())
}

fn take_msis(edu: &Edu, page: &Page) -> Result<(), String> {
    for bits in [0x1, 0x100, 0x8000_0000] {
        page.memory().write(0, 0_u32);
        edu.write(INTERRUPT_RAISE, bits);
        edu.until("the message", |_| page.memory().read::<u32>(0) != 0)?;
        expect("the message", page.memory().read(0), 0x4d53)?;
        expect("the interrupt status", edu.read(INTERRUPT_STATUS), bits)?;
        if edu.function.asserts_intx().map_err(text)? {
            return Err("INTx is asserted beside it".to_owned());
        }
        edu.write(INTERRUPT_ACKNOWLEDGE, bits);
        expect("the interrupt status after the acknowledgement", edu.read(INTERRUPT_STATUS), 0)?;
    }
    Ok(())
}

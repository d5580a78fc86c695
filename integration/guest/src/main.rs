//! Runs inside the test guest: drives an edu PCI device as a guest's driver would, and says what it saw.
//!
//! `guest-edu [ADDRESS]` takes the function at that PCI address, else the first edu device. Each check prints one line,
//! `guest: ok NAME: WHAT` or `guest: FAILED NAME: WHY`; the last line is `guest: passed` or `guest: failed N`. It needs
//! root, `/proc`, `/sys`, `/dev` and the module `uio_pci_generic`.

mod checks;
mod edu;
mod mapping;
mod pci;

use std::process::ExitCode;

use edu::Edu;

fn main() -> ExitCode {
    let address = std::env::args().nth(1);
    let mut edu = match Edu::open(address.as_deref()) {
        Ok(edu) => edu,
        Err(e) => {
            println!("guest: FAILED to open the device: {e}");
            println!("guest: failed 1");
            return ExitCode::FAILURE;
        }
    };
    println!("guest: ok found: {}", edu.function.address());
    let mut failed = 0;
    for (name, check) in checks::CHECKS {
        match check(&mut edu) {
            Ok(seen) => println!("guest: ok {name}: {seen}"),
            Err(why) => {
                failed += 1;
                println!("guest: FAILED {name}: {why}");
            }
        }
    }
    if failed == 0 {
        println!("guest: passed");
        ExitCode::SUCCESS
    } else {
        println!("guest: failed {failed}");
        ExitCode::FAILURE
    }
}

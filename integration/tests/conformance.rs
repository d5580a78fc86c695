//! The recorded exchanges against `vmmd`, twice: as it comes, and with every monitor told to behave as QEMU's do.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use vmm_integration::replay::{Options, Verdict, run};
use vmm_integration::vmm;

fn replay(like_qemu: bool) {
    let start = format!("{} {{args}}", vmm::program().display());
    let mut options = Options::for_vmmd(&start, like_qemu).unwrap();
    // Most of a case's time is waiting for what must not come.
    options.jobs *= 2;
    let report = run(&options, &|outcome| {
        if let Verdict::Failed(_) = outcome.verdict {
            eprintln!("{outcome}");
        }
    });
    println!("{report}");
    assert_eq!(report.failed(), 0, "{report}");
    assert!(report.passed() > 290, "{report}: too few cases ran");
}

#[test]
fn recorded_exchanges_as_it_comes() {
    replay(false);
}

#[test]
fn recorded_exchanges_like_qemu() {
    replay(true);
}

//! Prints the table of system calls that stands in `docs/SECCOMP.md`.

fn main() {
    print!("{}", thread_start::system_calls::markdown());
}

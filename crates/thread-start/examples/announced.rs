//! A hook that says which threads start: `cargo run -p thread-start --example announced`.

use thread_start::{Starter, ThreadKind};

fn main() -> std::io::Result<()> {
    let starter = Starter::new(|kind, name| println!("a thread starts: {name} ({kind})"));
    let threads = [
        starter.start(ThreadKind::IoThread, "IO disk0", || println!("disk0 is served"))?,
        starter.start(ThreadKind::Helper, "cleanup", || println!("all is clean"))?,
    ];
    for thread in threads {
        let _ = thread.join();
    }
    Ok(())
}

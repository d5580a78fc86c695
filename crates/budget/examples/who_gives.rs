//! Three clients of a server share a budget of 100 bytes; when it is used up, the one that holds most gives.

use budget::Budget;
use std::task::Waker;

fn main() {
    let memory = Budget::new(100);
    // A server gives the waker of the task that serves the client; here everybody is awake.
    let [mut quiet, mut busy, mut flood] = [(); 3].map(|()| memory.holder(Waker::noop().clone()));
    quiet.set(5, 0);
    busy.set(30, 0);
    flood.set(60, 0);
    println!("{} of {} bytes are held, and nobody is told to give", memory.used(), memory.limit());

    busy.set(50, 0);
    let told = [("quiet", &quiet), ("busy", &busy), ("flood", &flood)];
    let told: Vec<_> = told.iter().filter(|(_, holder)| holder.is_told()).map(|(name, _)| *name).collect();
    println!("{} of {} bytes are held, and told to give: {told:?}", memory.used(), memory.limit());

    flood.settle(10, 0);
    println!("{} of {} bytes are held, since it gave", memory.used(), memory.limit());
}

//! The servers that are measured, each a process of the `vfio-user-target` program.

use std::path::Path;

use super::aims::Mode;
use super::cases::Need;
use crate::harness::process::Spec;

/// A column of the table.
#[derive(Debug)]
pub struct Server {
    /// How to start it, and what the table calls it.
    pub spec: Spec,
    /// The floor that its figures are divided by, by its place among the servers that are measured.
    pub floor: Option<usize>,
    /// How it waits, if it is ours: aims are ours.
    pub mode: Option<Mode>,
    can: &'static [Need],
}

impl Server {
    /// Whether it can do what a measurement needs.
    #[must_use]
    pub fn can(&self, need: Need) -> bool {
        self.can.contains(&need)
    }
}

/// What there is to say about a server before it is started.
struct Known {
    name: &'static str,
    words: &'static [&'static str],
    floor: Option<&'static str>,
    mode: Option<Mode>,
    can: &'static [Need],
}

const EPOLL_FLOOR: &str = "epoll floor";
const BUSY_FLOOR: &str = "busy floor";
const FLOORS_CAN: &[Need] = &[Need::Accesses, Need::DmaMessages];

const OURS_CAN: &[Need] = &[Need::Accesses, Need::DmaMessages, Need::DmaMemory, Need::Contexts];

/// All of them, in the order of the table. Floors come before what is divided by them.
const KNOWN: &[Known] = &[
    Known { name: EPOLL_FLOOR, words: &["epoll-floor"], floor: None, mode: None, can: FLOORS_CAN },
    Known { name: BUSY_FLOOR, words: &["busy-floor"], floor: None, mode: None, can: FLOORS_CAN },
    Known {
        name: "vfio_user",
        words: &["vfio_user"],
        floor: Some(EPOLL_FLOOR),
        mode: None,
        can: &[Need::Accesses],
    },
    Known {
        name: "ours, epoll",
        words: &["ours", "--poll-max-ns", "0"],
        floor: Some(EPOLL_FLOOR),
        mode: Some(Mode::Epoll),
        can: OURS_CAN,
    },
    Known {
        name: "ours",
        words: &["ours"],
        floor: Some(BUSY_FLOOR),
        mode: Some(Mode::Polled),
        can: OURS_CAN,
    },
    Known {
        name: "ours, 1 ms",
        words: &["ours", "--poll-max-ns", "1000000"],
        floor: Some(BUSY_FLOOR),
        mode: Some(Mode::Polled),
        can: OURS_CAN,
    },
];

/// The names of all of them.
pub fn names() -> impl Iterator<Item = &'static str> {
    KNOWN.iter().map(|known| known.name)
}

/// Those that are not skipped, with `program` to run them.
#[must_use]
pub fn servers(program: &Path, skip: &[String]) -> Vec<Server> {
    let wanted: Vec<&Known> =
        KNOWN.iter().filter(|known| skip.iter().all(|name| name != known.name)).collect();
    let place = |floor| wanted.iter().position(|known| known.name == floor);
    wanted
        .iter()
        .map(|known| {
            let program = program.display().to_string();
            let words = known.words.iter().map(|&word| word.to_owned());
            let words = std::iter::once(program).chain(words).chain(["{socks}".to_owned()]).collect();
            let spec = Spec { name: known.name.to_owned(), words };
            Server { spec, floor: known.floor.and_then(place), mode: known.mode, can: known.can }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_divided_by_the_floor_that_waits_alike() {
        let all = servers(Path::new("p"), &[]);
        for server in &all {
            match server.mode {
                Some(Mode::Epoll) => assert_eq!(server.floor, Some(0)),
                Some(Mode::Polled) => assert_eq!(server.floor, Some(1)),
                None => {}
            }
        }
        let skipped = servers(Path::new("p"), &[EPOLL_FLOOR.to_owned()]);
        assert!(skipped.iter().all(|server| server.spec.name != EPOLL_FLOOR));
        let peer = skipped.iter().find(|server| server.spec.name == "vfio_user").unwrap();
        assert_eq!(peer.floor, None);
    }
}

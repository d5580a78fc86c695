//! A server that admits its own user, and one that admits nobody.

use std::os::unix::net::UnixStream;

use peer_admission::{Allowed, Credentials};

fn main() -> std::io::Result<()> {
    // Whoever accepts has such a socket. The client of a pair is its maker.
    let (accepted, _client) = UnixStream::pair()?;
    let peer = Credentials::of(&accepted);
    println!("a client came: {peer:?}");
    for (list, allowed) in
        [("my own user", Allowed::owner()), ("a list without anybody", Allowed::new(Some(vec![]), None))]
    {
        let verdict = if allowed.admits(&accepted, peer) { "admitted" } else { "refused" };
        println!("by {list}, it is {verdict}");
    }
    Ok(())
}

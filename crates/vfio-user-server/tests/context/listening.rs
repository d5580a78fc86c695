//! Where a context listens.

use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};

use iothread::IoThread;
use vfio_user_server::context::{Context, Listen};

use crate::support::*;

fn reason(listen: Listen) -> String {
    let (error, _device) = Context::builder(device().0).listen(listen).unwrap_err();
    error.io_error().to_string()
}

#[test]
fn a_socket_file_is_private_and_goes_with_its_context() {
    let mut house = House::new(|builder| builder);
    let mode = std::fs::metadata(&house.path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode & 0o077, 0);
    drop(house.exported.take());
    assert!(!house.path.exists());
    assert_eq!(std::fs::read_dir(house.folder()).unwrap().count(), 0);
}

#[test]
fn a_stale_file_is_replaced_and_a_live_one_is_not() {
    let house = House::new(|builder| builder);
    assert!(reason(Listen::Path(house.path.clone())).contains("Address already in use"));
    house.connect();
    let stale = house.folder().join("stale.sock");
    drop(UnixListener::bind(&stale).unwrap());
    let context =
        Context::builder(device().0).listen(Listen::Path(stale.clone())).map_err(|(e, _)| e).unwrap();
    assert!(UnixStream::connect(&stale).is_ok());
    drop(context);
    assert!(!stale.exists());
    let plain = house.folder().join("plain");
    std::fs::write(&plain, "mine").unwrap();
    assert!(reason(Listen::Path(plain.clone())).contains("Address already in use"));
    assert_eq!(std::fs::read_to_string(plain).unwrap(), "mine");
    assert!(reason(Listen::Path(house.folder().join("no/such/folder"))).contains("No such file"));
    assert!(reason(Listen::Path("x".repeat(200).into())).contains("too long"));
}

#[test]
fn abstract_names_and_inherited_sockets_serve_as_well() {
    let iothread = IoThread::builder("IO test").start().unwrap();
    let name = format!("vfio-user-test-{}", std::process::id());
    let start = |listen| {
        let context = Context::builder(device().0).listen(listen).map_err(|(error, _)| error).unwrap();
        context.spawn(&iothread.handle()).unwrap()
    };
    let by_name = start(Listen::Abstract(name.clone().into_bytes()));
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let mut client = Client::over(UnixStream::connect_addr(&address).unwrap());
    client.negotiate();
    assert_eq!(client.read(0, VALUE), 0);
    drop(by_name);

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("inherited");
    let listener = OwnedFd::from(UnixListener::bind(&path).unwrap());
    let _inherited = start(Listen::Fd(listener.into()));
    let mut client = Client::connect(&path);
    assert_eq!(client.read(0, VALUE), 0);

    let (ours, theirs) = UnixStream::pair().unwrap();
    let _connected = start(Listen::Fd(OwnedFd::from(theirs).into()));
    let mut client = Client::over(ours);
    client.negotiate();
    assert_eq!(client.read(0, VALUE), 0);

    let pipe = rustix::pipe::pipe().unwrap().0;
    assert!(!reason(Listen::Fd(pipe.into())).is_empty());
}

#[test]
fn only_allowed_users_get_in() {
    let uid = rustix::process::getuid().as_raw();
    let house = House::new(|builder| builder.allowed_uids([uid + 1]));
    let mode = std::fs::metadata(&house.path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o666, "they could not connect otherwise");
    let mut client = Client::silent(&house.path);
    client.wait_closed();
    let house = House::new(|builder| builder.allowed_uids([uid + 1, uid]));
    assert_eq!(house.connect().read(0, VALUE), 0);
    let gid = rustix::process::getegid().as_raw();
    let house = House::new(|builder| builder.allowed_uids([uid + 1]).allowed_gids([gid]));
    assert_eq!(house.connect().read(0, VALUE), 0);
    let house = House::new(|builder| builder.allowed_gids([u32::MAX - 7]));
    let mode = std::fs::metadata(&house.path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o666);
    Client::silent(&house.path).wait_closed();
}

/// Others on the same iothread have their turn after each.
#[test]
fn one_client_is_refused_in_a_turn() {
    let uid = rustix::process::getuid().as_raw();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let builder = Context::builder(device().0).allowed_uids([uid + 1]);
    let mut context = builder.listen(Listen::Path(path.clone())).map_err(|(error, _)| error).unwrap();
    let _clients: Vec<_> = (0..5).map(|_| UnixStream::connect(&path).unwrap()).collect();
    let handle = context.handle();
    for refused in 1..=5 {
        context.turn();
        assert_eq!(handle.stats().refused, refused);
    }
}

/// Its giver makes it blocking and takes clients away, then shuts it down. The iothread goes on.
#[test]
fn a_givers_tricks_with_a_listener_hold_up_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("given");
    let listener = UnixListener::bind(&path).unwrap();
    let givers = listener.try_clone().unwrap();
    let iothread = IoThread::builder("given").start().unwrap();
    let context = Context::builder(device().0)
        .reconnect(true)
        .listen(Listen::Fd(OwnedFd::from(listener).into()))
        .map_err(|(error, _)| error)
        .unwrap();
    let exported = context.spawn(&iothread.handle()).unwrap();
    let alive = || {
        let (tell, told) = std::sync::mpsc::channel();
        iothread.handle().run(move |_| tell.send(()).unwrap()).unwrap();
        told.recv_timeout(std::time::Duration::from_secs(30)).expect("the iothread waits");
    };
    for _ in 0..50 {
        givers.set_nonblocking(false).unwrap();
        let thief = givers.try_clone().unwrap();
        let thief = std::thread::spawn(move || thief.accept().map(drop));
        let _one = UnixStream::connect(&path).unwrap();
        alive();
        let _two = UnixStream::connect(&path).unwrap();
        let _three = UnixStream::connect(&path).unwrap();
        alive();
        thief.join().unwrap().unwrap();
    }
    let mut client = Client::connect(&path);
    assert_eq!(client.read(0, VALUE), 0);
    drop(client);
    rustix::net::shutdown(&givers, rustix::net::Shutdown::Both).unwrap();
    alive();
    drop(exported);
}

#[test]
fn a_descriptor_that_is_slow_to_close_holds_up_nobody() {
    let (socket, _peer) = lingering();
    let start = std::time::Instant::now();
    assert!(reason(Listen::Fd(socket.into())).contains("not a unix stream socket"));
    assert!(start.elapsed().as_secs() < 30, "its close was waited for");
}

#[test]
fn a_client_in_the_backlog_holds_up_nobody_when_the_socket_goes() {
    let house = House::new(|builder| builder);
    let served = house.connect();
    // Never accepted; what it has sent is dropped with the listening socket.
    let mut stranger = Client::silent(&house.path);
    let (socket, _peer) = lingering();
    stranger.send_with_fds(1, &[0; 4], &[std::os::fd::AsFd::as_fd(&socket)]);
    drop(socket);
    drop(served);
    assert!(matches!(house.next_event(), vfio_user_server::context::Event::Attached(_)));
    assert!(matches!(house.next_event(), vfio_user_server::context::Event::Hangup { ended: true, .. }));
    let (tell, told) = std::sync::mpsc::channel();
    house.iothread.handle().run(move |_| tell.send(()).unwrap()).unwrap();
    told.recv_timeout(std::time::Duration::from_secs(30))
        .expect("the iothread waits for the stranger's descriptor");
}

//! Files and fifos.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod common;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use chardev::{
    AttachError, Backend, Chardev, FileOptions, LogOptions, OpenError, OpenOptions, OpenedFile, Opener,
};
use common::{is_pending, read, send};
use rustix::fs::{FileType, Mode, OFlags};

async fn open(backend: Backend) -> Result<Arc<Chardev>, OpenError> {
    Chardev::open("c", backend, 1).await.map(Arc::new)
}

fn file(path: &Path, append: bool) -> Backend {
    Backend::File(FileOptions { path: path.to_owned(), input: None, append })
}

fn fifo(path: &Path) {
    rustix::fs::mknodat(rustix::fs::CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
}

#[tokio::test]
async fn a_file_is_written_and_never_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f");
    for (append, content) in [(false, "new"), (true, "newnew"), (false, "new")] {
        let chardev = open(file(&path, append)).await.unwrap();
        assert_eq!(chardev.filename(), "file");
        let mut front_end = chardev.front_end(64).unwrap();
        let connection = front_end.next().await.unwrap();
        send(&connection, b"new").await;
        assert!(is_pending(read(&connection)).await);
        assert!(is_pending(front_end.next()).await);
        drop(connection);
        assert!(front_end.next().await.is_none());
        assert_eq!(fs::read_to_string(&path).unwrap(), content);
    }
}

#[tokio::test]
async fn a_file_with_an_input() {
    let dir = tempfile::tempdir().unwrap();
    let input = dir.path().join("in");
    fs::write(&input, "hello").unwrap();
    let path = dir.path().join("out");
    let options = FileOptions { path, input: Some(input), append: false };
    let chardev = open(Backend::File(options)).await.unwrap();
    let connection = chardev.front_end(1).unwrap().next().await.unwrap();
    assert_eq!(read(&connection).await.unwrap(), b"hello");
    assert_eq!(read(&connection).await.unwrap(), b"");
}

#[tokio::test]
async fn errors_come_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("nope/f");
    let text = open(file(&path, false)).await.unwrap_err().to_string();
    assert_eq!(text, format!("Could not open '{}': No such file or directory", path.display()));
    let text = open(Backend::Pipe(path.clone())).await.unwrap_err().to_string();
    assert_eq!(text, format!("Could not open '{}': No such file or directory", path.display()));
    let text = open(file(dir.path(), false)).await.unwrap_err().to_string();
    assert!(text.ends_with("Is a directory"), "{text}");
    // QEMU waits for ever for somebody to read it.
    let pipe = dir.path().join("fifo");
    fifo(&pipe);
    let text = open(file(&pipe, false)).await.unwrap_err().to_string();
    assert!(text.ends_with("No such device or address"), "{text}");
}

#[tokio::test]
async fn two_fifos() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("p");
    let end = |end: &str| dir.path().join(format!("p.{end}"));
    fifo(&end("in"));
    assert!(open(Backend::Pipe(path.clone())).await.is_err(), "one is not enough");
    fifo(&end("out"));
    let chardev = open(Backend::Pipe(path)).await.unwrap();
    assert_eq!(chardev.filename(), "pipe");
    let connection = chardev.front_end(1).unwrap().next().await.unwrap();
    for _ in 0..2 {
        // Peers come and go.
        File::options().write(true).open(end("in")).unwrap().write_all(b"hello").unwrap();
        assert_eq!(read(&connection).await.unwrap(), b"hello");
        assert!(is_pending(read(&connection)).await);
        send(&connection, b"answer").await;
        let mut buf = [0; 6];
        File::open(end("out")).unwrap().read_exact(&mut buf).unwrap();
        assert_eq!(&buf, b"answer");
    }
}

#[tokio::test]
async fn one_file_for_both() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("p");
    fifo(&path);
    let chardev = open(Backend::Pipe(path)).await.unwrap();
    let connection = chardev.front_end(1).unwrap().next().await.unwrap();
    send(&connection, b"to itself").await;
    assert_eq!(read(&connection).await.unwrap(), b"to itself");
}

#[tokio::test]
async fn files_are_no_sockets() {
    let chardev = open(file(Path::new("/dev/null"), false)).await.unwrap();
    assert!(!chardev.is_socket());
    chardev.disconnect();
    let connection = chardev.front_end(1).unwrap().next().await.unwrap();
    send(&connection, b"still there").await;
    let (ours, mut theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    assert!(matches!(chardev.attach(OwnedFd::from(ours), None), Err(AttachError::NotASocketChardev)));
    assert_eq!(theirs.read(&mut [0; 1]).unwrap(), 0);
}

/// Says when it is dropped.
struct Guard(Arc<AtomicBool>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

#[tokio::test]
async fn an_opener_is_asked_and_what_it_keeps_lives_as_long() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let dropped = Arc::new(AtomicBool::new(false));
    let opener = Opener::new({
        let (asked, dropped) = (asked.clone(), dropped.clone());
        move |path, flags| {
            asked.lock().unwrap().push((path.to_owned(), flags));
            Ok(OpenedFile::from(OwnedFd::from(tempfile::tempfile()?)).keeping(Guard(dropped.clone())))
        }
    });
    let options = OpenOptions::new(1).opener(opener);
    let chardev = Chardev::open_with("c", file(Path::new("/dev/fdset/1"), true), options).await.unwrap();
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND | OFlags::NONBLOCK;
    assert_eq!(*asked.lock().unwrap(), [("/dev/fdset/1".into(), flags)]);
    assert!(!dropped.load(Ordering::Acquire));
    drop(chardev);
    assert!(dropped.load(Ordering::Acquire));
}

#[tokio::test]
async fn a_log_has_what_was_sent() {
    let dir = tempfile::tempdir().unwrap();
    let (log, path) = (dir.path().join("log"), dir.path().join("s"));
    for (append, content) in [(false, "hello"), (true, "hellohello"), (false, "hello")] {
        let options = chardev::SocketOptions::server(chardev::Address::unix(&path));
        let noted = OpenOptions::new(1).log(Some(LogOptions { path: log.clone(), append }));
        let chardev = Chardev::open_with("c", Backend::Socket(options), noted).await.unwrap();
        let chardev = Arc::new(chardev);
        let mut client = std::os::unix::net::UnixStream::connect(&path).unwrap();
        let connection = chardev.front_end(1).unwrap().next().await.unwrap();
        client.write_all(b"not this").unwrap();
        assert_eq!(read(&connection).await.unwrap(), b"not this");
        send(&connection, b"hel").await;
        connection.send_now(b"lo").unwrap();
        assert_eq!(fs::read_to_string(&log).unwrap(), content);
    }
    let log = Some(LogOptions { path: dir.path().join("nope/log"), append: false });
    let error = Chardev::open_with("c", Backend::Null, OpenOptions::new(1).log(log)).await.unwrap_err();
    let text = format!("Could not create '{}/nope/log': No such file or directory", dir.path().display());
    assert_eq!(error.to_string(), text);
}

#[tokio::test]
async fn a_log_that_cannot_be_written_harms_nobody() {
    let options = OpenOptions::new(1).log(Some(LogOptions { path: "/dev/full".into(), append: false }));
    let chardev =
        Arc::new(Chardev::open_with("c", file(Path::new("/dev/null"), false), options).await.unwrap());
    let connection = chardev.front_end(1).unwrap().next().await.unwrap();
    send(&connection, b"hello").await;
}

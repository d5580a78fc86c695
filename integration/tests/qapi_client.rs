//! Sessions of the `qapi` crate (0.15, tokio), which knows nothing of ours: it has QEMU's schema in types and drops the
//! connection on anything that does not fit them.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::io::ErrorKind;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::join_all;
use qapi::futures::{QapiEvents, QapiService, QmpStreamTokio};
use qapi::qmp::{self, Event, RunState};
use qapi::{ErrorClass, ExecuteError};
use tokio::io::{ReadHalf, WriteHalf};
use tokio::net::UnixStream;
use vmm_integration::LIMIT;
use vmm_integration::vmm::{Vmm, is_qemu};

type Service = QapiService<QmpStreamTokio<WriteHalf<UnixStream>>>;
type Events = QapiEvents<QmpStreamTokio<ReadHalf<UnixStream>>>;

async fn connect(vmm: &Vmm, monitor: usize) -> (Service, Events) {
    let stream = QmpStreamTokio::open_uds(vmm.socket(monitor)).await.unwrap();
    stream.negotiate().await.unwrap().into_parts()
}

async fn within<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, what).await.unwrap()
}

#[tokio::test]
async fn greeting_names_the_dialect() {
    let vmm = Vmm::start();
    let stream = within(QmpStreamTokio::open_uds(vmm.socket(0))).await.unwrap();
    assert_eq!(stream.capabilities.QMP.version.qemu.major, 7);
    assert_eq!(stream.capabilities.QMP.version.qemu.minor, 2);
}

#[tokio::test]
async fn status_stop_cont_and_their_events() {
    let vmm = Vmm::start();
    let (service, mut events) = within(connect(&vmm, 0)).await;
    let session = async {
        assert_eq!(service.execute(qmp::query_status {}).await.unwrap().status, RunState::running);
        service.execute(qmp::stop {}).await.unwrap();
        let status = service.execute(qmp::query_status {}).await.unwrap();
        assert!(!status.running && status.status == RunState::paused);
        service.execute(qmp::cont {}).await.unwrap();
    };
    let watch = async {
        let stop = events.next().await.unwrap().unwrap();
        let resume = events.next().await.unwrap().unwrap();
        assert!(matches!(stop, Event::STOP { .. }), "{stop:?}");
        assert!(matches!(resume, Event::RESUME { .. }), "{resume:?}");
        // The stream is also what reads the last replies.
        let _ = tokio::time::timeout(Duration::from_millis(200), events.next()).await;
    };
    within(async { tokio::join!(session, watch) }).await;
}

#[tokio::test]
async fn errors_are_errors_and_the_session_goes_on() {
    let vmm = Vmm::start();
    let (service, events) = within(connect(&vmm, 0)).await;
    let reader = events.spawn_tokio();
    let missing = qmp::closefd { fdname: "nope".to_owned() };
    match within(service.execute(missing)).await {
        Err(ExecuteError::Qapi(error)) => {
            assert!(matches!(error.class, ErrorClass::GenericError));
            assert_eq!(error.desc, "File descriptor named 'nope' not found");
        }
        other => panic!("{other:?}"),
    }
    assert!(within(service.execute(qmp::query_fdsets {})).await.unwrap().is_empty());
    drop(service);
    within(reader).await.unwrap();
}

/// The crate reads the schema into types of its own, strictly.
#[tokio::test]
async fn the_schema_is_one_that_the_crate_can_read() {
    let vmm = Vmm::start();
    let (service, events) = within(connect(&vmm, 0)).await;
    let reader = events.spawn_tokio();
    let schema = within(service.execute(qmp::query_qmp_schema {})).await.unwrap();
    assert!(schema.len() > 40, "{}", schema.len());
    drop(service);
    within(reader).await.unwrap();
}

#[tokio::test]
async fn a_thousand_commands_in_flight_from_many_clients() {
    let (monitors, clients) = if is_qemu() { (10, 10) } else { (5, 50) };
    let vmm = Vmm::with_monitors(monitors);
    let mut sessions = Vec::new();
    for client in 0..clients {
        let (service, events) = within(connect(&vmm, client % monitors)).await;
        events.spawn_tokio();
        sessions.push(service);
    }
    let commands = sessions.iter().flat_map(|service| {
        (0..1000 / clients).map(|_| async {
            let status = service.execute(qmp::query_status {}).await.unwrap();
            assert!(status.running);
        })
    });
    within(join_all(commands)).await;
}

#[tokio::test]
async fn quit_shows_its_event_and_ends_the_stream() {
    let mut vmm = Vmm::start();
    let (service, mut events) = within(connect(&vmm, 0)).await;
    let watch = async {
        let shutdown = events.next().await.unwrap().unwrap();
        assert!(matches!(shutdown, Event::SHUTDOWN { .. }), "{shutdown:?}");
        // A server that ends without having read the newline after `quit` resets the connection instead.
        match events.next().await {
            None => {}
            Some(Err(e)) if e.kind() == ErrorKind::ConnectionReset => {}
            other => panic!("{other:?}"),
        }
    };
    let (quit, ()) = within(async { tokio::join!(service.execute(qmp::quit {}), watch) }).await;
    quit.unwrap();
    assert_eq!(vmm.exit_code(), 0);
}

//! One request of one client, and its answer: HTTP/1.1, `GET` or `HEAD` of `/metrics`.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE};
use hyper::rt::{Sleep, Timer};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, http};
use vmm_control::chardev::Connection;

use super::Figures;
use super::io::Io;

/// How long a request's head may take to come.
const HEAD: Duration = Duration::from_secs(5);

/// How long a connection may last: the head, the answer, and its reading.
const WHOLE: Duration = Duration::from_secs(10);

/// The longest head, in bytes. A browser's, or a proxy's, is a tenth of it.
const HEAD_BYTES: usize = 8192;

/// How many fields a head may have.
const FIELDS: usize = 64;

/// The text format of Prometheus.
const EXPOSITION: &str = "text/plain; version=0.0.4; charset=utf-8";

const PLAIN: &str = "text/plain; charset=utf-8";

/// Serves a client until it has its answer, has gone, or its time is up.
pub(super) async fn serve(client: Connection, figures: Arc<Figures>) {
    let peer = client.peer().clone();
    let service = service_fn(|request: Request<Incoming>| {
        let (figures, wanted) = (&figures, Wanted::of(request.method(), request.uri().path()));
        async move { wanted.answer(figures).await }
    });
    let serving = http1::Builder::new()
        // A client that would hold its place for the next request is one that others wait for.
        .keep_alive(false)
        // It may have said all that it has to say.
        .half_close(true)
        .timer(Clock)
        .header_read_timeout(HEAD)
        .max_headers(FIELDS)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(Io(client), service);
    match tokio::time::timeout(WHOLE, serving).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, %peer, "a client of the metrics was not served"),
        Err(_) => tracing::debug!(%peer, "a client of the metrics has not taken its answer in time"),
    }
}

/// What a request is after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    Metrics,
    /// Something else in the place of the metrics.
    OtherMethod,
    /// Something that is not here.
    OtherPath,
}

impl Wanted {
    fn of(method: &Method, path: &str) -> Self {
        match (path, method) {
            ("/metrics", &Method::GET | &Method::HEAD) => Self::Metrics,
            ("/metrics", _) => Self::OtherMethod,
            _ => Self::OtherPath,
        }
    }

    /// To `HEAD` hyper sends none of the body.
    async fn answer(self, figures: &Figures) -> http::Result<Response<Full<Bytes>>> {
        let (status, kind, body) = match self {
            Self::Metrics => (StatusCode::OK, EXPOSITION, figures.text().await.into()),
            Self::OtherMethod => {
                (StatusCode::METHOD_NOT_ALLOWED, PLAIN, Bytes::from_static(b"ask with GET or HEAD\n"))
            }
            Self::OtherPath => (
                StatusCode::NOT_FOUND,
                PLAIN,
                Bytes::from_static(b"ask for /metrics, there is nothing else\n"),
            ),
        };
        let answer = Response::builder().status(status).header(CONTENT_TYPE, kind);
        let answer = if self == Self::OtherMethod { answer.header(ALLOW, "GET, HEAD") } else { answer };
        answer.body(Full::new(body))
    }
}

/// The runtime's clock, for hyper.
#[derive(Clone, Copy, Debug)]
struct Clock;

#[derive(Debug)]
struct Nap(Pin<Box<tokio::time::Sleep>>);

impl Timer for Clock {
    fn now(&self) -> Instant {
        tokio::time::Instant::now().into_std()
    }

    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        Box::pin(Nap(Box::pin(tokio::time::sleep(duration))))
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        Box::pin(Nap(Box::pin(tokio::time::sleep_until(deadline.into()))))
    }
}

impl Sleep for Nap {}

impl Future for Nap {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use vmm_control::{ControlPlane, RunState, RunStateCell};

    use super::super::Recorder;
    use super::*;

    /// How long a client is served that sends this and nothing more, and reads nothing; and the other end.
    async fn served(sent: &str) -> (Duration, UnixStream) {
        let recorder = Recorder::new();
        // More than a socket holds.
        recorder.seen(|| {
            (0..20_000).for_each(|n: u32| metrics::counter!("many", "n" => n.to_string()).increment(1));
        });
        let plane = ControlPlane::builder(RunStateCell::new(RunState::Running)).build().unwrap();
        let figures = Arc::new(Figures::new(&recorder, plane.handle()));
        let (here, mut there) = UnixStream::pair().unwrap();
        here.set_nonblocking(true).unwrap();
        there.write_all(sent.as_bytes()).unwrap();
        let client = Connection::from_unix_stream(tokio::net::UnixStream::from_std(here).unwrap()).unwrap();
        let start = tokio::time::Instant::now();
        serve(client, figures).await;
        (start.elapsed(), there)
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_has_five_seconds() {
        for part in ["", "GET", "GET /metrics HTTP/1.1\r\nHost: x\r\n"] {
            let (lasted, mut client) = served(part).await;
            assert!(lasted >= HEAD && lasted < HEAD + Duration::from_secs(1), "{part}: {lasted:?}");
            let mut said = String::new();
            let _ = client.read_to_string(&mut said);
            assert!(!said.contains("200"), "{said}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_nobody_takes_has_ten() {
        let (lasted, mut client) = served("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await;
        assert!(lasted >= WHOLE && lasted < WHOLE + Duration::from_secs(1), "{lasted:?}");
        let mut said = Vec::new();
        let _ = client.read_to_end(&mut said);
        assert!(said.starts_with(b"HTTP/1.1 200 OK\r\n"), "what fits into the socket is there");
    }

    #[test]
    fn the_path_is_looked_at_before_the_method() {
        for (method, path, wanted) in [
            (Method::GET, "/metrics", Wanted::Metrics),
            (Method::HEAD, "/metrics", Wanted::Metrics),
            (Method::POST, "/metrics", Wanted::OtherMethod),
            (Method::OPTIONS, "/metrics", Wanted::OtherMethod),
            (Method::POST, "/", Wanted::OtherPath),
            (Method::GET, "/metrics/", Wanted::OtherPath),
            (Method::GET, "//metrics", Wanted::OtherPath),
            (Method::GET, "", Wanted::OtherPath),
        ] {
            assert_eq!(Wanted::of(&method, path), wanted, "{method} {path}");
        }
    }
}

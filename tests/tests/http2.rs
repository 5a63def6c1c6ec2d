//! The server's HTTP/2 against a client by others, over a stream in memory: many streams, large
//! bodies, slow readers, resets, trailers, the end.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::io::{AsyncRead, AsyncWrite};
use futures_util::stream;
use h2::client::SendRequest;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use mainstay_apiserver::net::http2::driver::{self, DriveError, World};
use mainstay_apiserver::net::limits;
use mainstay_apiserver::net::{Bounds, BoxedBody, RequestBody};
use tokio::io::{DuplexStream, ReadBuf};
use tokio::sync::{Notify, oneshot};
use tokio::task::{JoinHandle, LocalSet, spawn_local};

/// One end of a stream in memory, as the server wants it.
struct Stream(DuplexStream);

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(buffer);
        tokio::io::AsyncRead::poll_read(Pin::new(&mut self.0), context, &mut buffer)
            .map_ok(|()| buffer.filled().len())
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        tokio::io::AsyncWrite::poll_write(Pin::new(&mut self.0), context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        tokio::io::AsyncWrite::poll_flush(Pin::new(&mut self.0), context)
    }

    fn poll_close(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        tokio::io::AsyncWrite::poll_shutdown(Pin::new(&mut self.0), context)
    }
}

/// A server on the other end of a stream in memory.
struct Server {
    stream: Option<DuplexStream>,
    shutdown: Option<oneshot::Sender<()>>,
    ended: JoinHandle<Result<(), DriveError>>,
}

fn serve<H, F>(sleep: fn(Duration) -> Sleep, handler: H) -> Server
where
    H: Fn(Request<RequestBody>) -> F + 'static,
    F: Future<Output = Response<BoxedBody>> + 'static,
{
    let (client, server) = tokio::io::duplex(100_000);
    let (shutdown, requested) = oneshot::channel();
    let world = World {
        sleep,
        wall_clock: SystemTime::now,
        monotonic_ms: || 0,
        shutdown: Box::pin(async move {
            if requested.await.is_err() {
                std::future::pending::<()>().await;
            }
        }),
        buffer: Rc::new(RefCell::new(vec![0; 64 << 10].into_boxed_slice())),
    };
    let ended = spawn_local(async move {
        driver::serve(Stream(server), b"", world, Bounds::default(), handler).await
    });
    Server { stream: Some(client), shutdown: Some(shutdown), ended }
}

type Sleep = futures_util::future::LocalBoxFuture<'static, ()>;

fn real_time(duration: Duration) -> Sleep {
    Box::pin(tokio::time::sleep(duration))
}

/// All waits of the server are short.
fn haste(_: Duration) -> Sleep {
    Box::pin(tokio::time::sleep(Duration::from_millis(50)))
}

impl Server {
    /// A client, with its windows.
    async fn client(&mut self, window_bytes: u32) -> SendRequest<Bytes> {
        let stream = self.stream.take().expect("one client");
        let (client, connection) = h2::client::Builder::new()
            .initial_window_size(window_bytes)
            .initial_connection_window_size(1 << 20)
            .initial_max_send_streams(1000)
            .handshake(stream)
            .await
            .expect("a handshake");
        spawn_local(async move {
            let _ends_with_the_server = connection.await;
        });
        client.ready().await.expect("ready")
    }
}

/// Runs a test on one thread, as the server's tasks live.
fn run(test: impl Future<Output = ()>) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let test = async { tokio::time::timeout(Duration::from_secs(60), test).await };
    LocalSet::new().block_on(&runtime, test).expect("the test takes less than a minute");
}

fn request(method: &str, path: &str) -> Request<()> {
    let uri = format!("http://server{path}");
    Request::builder().method(method).uri(uri).body(()).expect("a request")
}

/// Reads an answer's body and gives its windows back.
async fn read(mut body: h2::RecvStream) -> (Vec<u8>, Option<HeaderMap>) {
    let mut bytes = Vec::new();
    while let Some(data) = body.data().await {
        let data = data.expect("data");
        body.flow_control().release_capacity(data.len()).expect("received");
        bytes.extend_from_slice(&data);
    }
    (bytes, body.trailers().await.expect("trailers or none"))
}

fn text(text: impl Into<Bytes>) -> Response<BoxedBody> {
    Response::new(BoxedBody::full(text))
}

#[test]
fn a_thousand_streams_at_once() {
    run(async {
        const STREAMS: usize = 1000;
        let (open, all_open) = (Rc::new(Cell::new(0)), Rc::new(Notify::new()));
        let mut server = serve(real_time, move |request: Request<RequestBody>| {
            let (open, all_open) = (open.clone(), all_open.clone());
            async move {
                let waiting = all_open.notified();
                open.set(open.get() + 1);
                if open.get() == STREAMS {
                    all_open.notify_waiters();
                } else {
                    waiting.await;
                }
                text(request.uri().path().to_owned())
            }
        });
        let client = server.client(65_535).await;
        let mut answers = Vec::new();
        for at in 0..STREAMS {
            let mut client = client.clone().ready().await.expect("ready");
            let path = format!("/{at}");
            let (answer, _) = client.send_request(request("GET", &path), true).expect("sent");
            answers.push(spawn_local(async move {
                let answer = answer.await.expect("an answer");
                assert_eq!(answer.status(), 200);
                assert_eq!(answer.headers()["content-length"], path.len().to_string().as_str());
                assert!(answer.headers().contains_key("date"));
                assert_eq!(read(answer.into_body()).await.0, path.as_bytes());
            }));
        }
        for answer in answers {
            answer.await.expect("answered");
        }
    });
}

/// The request's body as the answer's, piece by piece.
fn echo(request: Request<RequestBody>) -> impl Future<Output = Response<BoxedBody>> {
    struct Echo(RequestBody);
    impl Body for Echo {
        type Data = Bytes;
        type Error = mainstay_apiserver::net::BoxError;
        fn poll_frame(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
            Pin::new(&mut self.0).poll_frame(context)
        }
    }
    std::future::ready(Response::new(BoxedBody::new(Echo(request.into_body()))))
}

#[test]
fn large_bodies_and_trailers_go_both_ways() {
    run(async {
        let mut server = serve(real_time, echo);
        let mut client = server.client(50_000).await;
        let sent: Vec<u8> = (0..8u32 << 20).map(|at| (at ^ (at >> 11)) as u8).collect();
        let (answer, mut body) = client.send_request(request("POST", "/"), false).expect("sent");
        let sender = spawn_local({
            let sent = Bytes::from(sent.clone());
            async move {
                let mut rest = sent;
                while !rest.is_empty() {
                    body.reserve_capacity(rest.len());
                    let room = poll_fn(|context| body.poll_capacity(context)).await;
                    let room = room.expect("open").expect("room");
                    body.send_data(rest.split_to(room.min(rest.len())), false).expect("sent");
                }
                let mut trailers = HeaderMap::new();
                trailers.insert("checksum", HeaderValue::from_static("right"));
                body.send_trailers(trailers).expect("sent");
            }
        });
        let (received, trailers) = read(answer.await.expect("an answer").into_body()).await;
        sender.await.expect("all sent");
        assert!(received == sent, "{} bytes", received.len());
        assert_eq!(trailers.expect("trailers")["checksum"], "right");
    });
}

#[test]
fn a_whole_large_answer_fits_through_a_small_window() {
    run(async {
        let mut server = serve(real_time, |_| async { text(vec![7; 3 << 20]) });
        let mut client = server.client(1000).await;
        let (answer, _) = client.send_request(request("GET", "/"), true).expect("sent");
        assert_eq!(read(answer.await.expect("an answer").into_body()).await.0, vec![7; 3 << 20]);
    });
}

#[test]
fn nothing_is_produced_for_who_does_not_read() {
    run(async {
        let produced = Rc::new(Cell::new(0));
        let counter = produced.clone();
        let mut server = serve(real_time, move |request: Request<RequestBody>| {
            let counter = counter.clone();
            async move {
                if request.uri().path() == "/small" {
                    return text("small");
                }
                Response::new(BoxedBody::stream(stream::repeat_with(move || {
                    counter.set(counter.get() + 1000);
                    Ok(Bytes::from_static(&[7; 1000]))
                })))
            }
        });
        let mut client = server.client(100_000).await;
        let (answer, _) = client.send_request(request("GET", "/endless"), true).expect("sent");
        let mut endless = answer.await.expect("an answer").into_body();
        for round in 1..=5 {
            // Somebody else is served meanwhile.
            let (answer, _) = client.send_request(request("GET", "/small"), true).expect("sent");
            assert_eq!(read(answer.await.expect("an answer").into_body()).await.0, b"small");
            tokio::time::sleep(Duration::from_millis(20)).await;
            let most = round * 100_000 + 1000;
            assert!(produced.get() <= most, "round {round}: {} bytes", produced.get());
            assert!(produced.get() >= most - 60_000, "round {round}: {} bytes", produced.get());
            let mut read = 0;
            while read < 100_000 {
                let data = endless.data().await.expect("endless").expect("data");
                read += data.len();
                endless.flow_control().release_capacity(data.len()).expect("received");
            }
        }
    });
}

#[test]
fn answers_that_nobody_takes_are_refused_beyond_a_bound() {
    const ANSWER_BYTES: usize = 1 << 20;
    const STREAMS: usize = 20;
    run(async {
        let content = Bytes::from(vec![7; ANSWER_BYTES]);
        let mut server = serve(real_time, move |_| {
            let content = content.clone();
            async move {
                // All streams have begun before the first is answered.
                tokio::time::sleep(Duration::from_millis(50)).await;
                text(content)
            }
        });
        let mut client = server.client(0).await;
        let answers: Vec<_> = (0..STREAMS)
            .map(|_| client.send_request(request("GET", "/"), true).expect("sent").0)
            .collect();
        let mut kept = Vec::new();
        for answer in answers {
            let answer = answer.await.expect("an answer's head");
            match answer.status().as_u16() {
                200 => kept.push(answer),
                429 => assert_eq!(answer.headers()["retry-after"], "1"),
                other => panic!("{other}"),
            }
        }
        assert_eq!(kept.len(), limits::PENDING_BYTES / ANSWER_BYTES + 1);
    });
}

#[test]
fn an_answer_that_is_not_taken_goes_after_a_while() {
    run(async {
        let mut server = serve(haste, |request: Request<RequestBody>| async move {
            match request.uri().path() {
                "/watch" => Response::new(BoxedBody::stream(stream::repeat_with(|| {
                    Ok(Bytes::from_static(&[7; 300_000]))
                }))),
                _ => text(vec![7; 4 << 20]),
            }
        });
        let mut client = server.client(1).await;
        let (watch, _) = client.send_request(request("GET", "/watch"), true).expect("sent");
        let (whole, _) = client.send_request(request("GET", "/"), true).expect("sent");
        let mut whole = whole.await.expect("an answer").into_body();
        let error = loop {
            match whole.data().await.expect("no end") {
                Ok(data) => assert_eq!(data.len(), 1),
                Err(error) => break error,
            }
        };
        assert_eq!(error.reason(), Some(h2::Reason::ENHANCE_YOUR_CALM));
        // What waits at its source is no burden.
        let mut watch = watch.await.expect("an answer").into_body();
        let mut received = 0;
        while received < 5 {
            let data = watch.data().await.expect("no end").expect("data");
            received += data.len();
            watch.flow_control().release_capacity(data.len()).expect("received");
        }
    });
}

/// Sets a flag when dropped.
struct Dropped(Rc<Cell<u32>>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.set(self.0.get() + 1);
    }
}

#[test]
fn a_reset_drops_what_is_done_for_the_stream() {
    run(async {
        let (started, dropped) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
        let (counter, guard) = (started.clone(), dropped.clone());
        let mut server = serve(real_time, move |request: Request<RequestBody>| {
            let (counter, guard) = (counter.clone(), Dropped(guard.clone()));
            async move {
                counter.set(counter.get() + 1);
                match request.uri().path() {
                    "/handler" => std::future::pending().await,
                    "/reader" => {
                        let _request = request.into_body().collect().await;
                        drop(guard);
                        std::future::pending().await
                    }
                    _ => Response::new(BoxedBody::stream(stream::unfold(guard, |guard| async {
                        tokio::time::sleep(Duration::from_millis(1)).await;
                        Some((Ok(Bytes::from_static(b"tick")), guard))
                    }))),
                }
            }
        });
        let mut client = server.client(65_535).await;
        for (at, path) in ["/handler", "/reader", "/answer"].into_iter().enumerate() {
            let (answer, mut body) =
                client.send_request(request("POST", path), false).expect("sent");
            body.send_data(Bytes::from_static(b"some"), false).expect("sent");
            while started.get() as usize != at + 1 {
                tokio::task::yield_now().await;
            }
            assert_eq!(dropped.get() as usize, at);
            body.send_reset(h2::Reason::CANCEL);
            drop(answer);
            while dropped.get() as usize != at + 1 {
                tokio::task::yield_now().await;
            }
        }
        // The connection is none the worse for it.
        let (answer, _) = client.send_request(request("GET", "/answer"), true).expect("sent");
        assert_eq!(answer.await.expect("an answer").status(), 200);
    });
}

#[test]
fn a_broken_answer_resets_its_stream() {
    run(async {
        let mut server = serve(real_time, |_| async {
            let items = [Ok(Bytes::from_static(b"begun")), Err("broken".into())];
            Response::new(BoxedBody::stream(stream::iter(items)))
        });
        let mut client = server.client(65_535).await;
        let (answer, _) = client.send_request(request("GET", "/"), true).expect("sent");
        let mut body = answer.await.expect("an answer").into_body();
        let error = loop {
            match body.data().await.expect("not the end") {
                Ok(data) => assert_eq!(data, "begun"),
                Err(error) => break error,
            }
        };
        assert_eq!(error.reason(), Some(h2::Reason::INTERNAL_ERROR));
    });
}

#[test]
fn an_answer_may_come_before_all_of_the_request() {
    run(async {
        let mut server = serve(real_time, |_| async { text("enough") });
        let mut client = server.client(65_535).await;
        for _ in 0..100 {
            let (answer, mut body) =
                client.send_request(request("POST", "/"), false).expect("sent");
            body.send_data(Bytes::from(vec![7; 60_000]), false).expect("sent");
            let answer = answer.await.expect("an answer");
            assert_eq!(read(answer.into_body()).await.0, b"enough");
        }
    });
}

#[test]
fn head_has_no_body() {
    run(async {
        let mut server = serve(real_time, |_| async { text("twelve bytes") });
        let mut client = server.client(65_535).await;
        let (answer, _) = client.send_request(request("HEAD", "/"), true).expect("sent");
        let answer = answer.await.expect("an answer");
        assert_eq!(answer.headers()["content-length"], "12");
        assert!(answer.body().is_end_stream());
    });
}

#[test]
fn a_graceful_end_lets_requests_finish() {
    run(async {
        let mut server = serve(real_time, |request: Request<RequestBody>| async move {
            tokio::time::sleep(Duration::from_millis(100)).await;
            text(request.uri().path().to_owned())
        });
        let mut client = server.client(65_535).await;
        let (answer, _) = client.send_request(request("GET", "/late"), true).expect("sent");
        tokio::time::sleep(Duration::from_millis(20)).await;
        server.shutdown.take().expect("once").send(()).expect("the server lives");
        let answer = answer.await.expect("an answer");
        assert_eq!(read(answer.into_body()).await.0, b"/late");
        assert!(server.ended.await.expect("no panic").is_ok());
    });
}

#[test]
fn who_hangs_at_the_end_is_cut_off() {
    run(async {
        let mut server = serve(haste, |_| std::future::pending());
        let mut client = server.client(65_535).await;
        let (answer, _) = client.send_request(request("GET", "/"), true).expect("sent");
        server.shutdown.take().expect("once").send(()).expect("the server lives");
        assert!(server.ended.await.expect("no panic").is_ok());
        assert!(answer.await.is_err());
    });
}

#[test]
fn who_answers_pings_stays_and_who_does_not_goes() {
    run(async {
        let mut server = serve(haste, |_| async { text("here") });
        let mut client = server.client(65_535).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        let (answer, _) = client.send_request(request("GET", "/"), true).expect("sent");
        assert_eq!(answer.await.expect("an answer").status(), 200);
        let silent = serve(haste, |_| async { text("never") });
        assert!(matches!(silent.ended.await.expect("no panic"), Err(DriveError::Silent)));
    });
}

//! Gives a [`Connection`] a socket, the time and handlers.
//!
//! All of it is one task: the handlers of a connection are polled where the connection is, so that
//! the answers that are ready at a time leave in one write. `streams` is about requests and answers,
//! the rest about the connection.

mod streams;

use std::future::Future;
use std::io;
use std::mem;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, SystemTime};

use bytes::Buf;
use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use futures_util::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use http::{Request, Response};

use super::body::{BodyError, Consumed};
use super::connection::Connection;
use super::date::DateCache;
use super::error::Fault;
use super::ready::{self, Ready};
use super::stream::StreamKey;
use crate::net::body::{BoxedBody, RequestBody};
use crate::net::rt::ReadBuffer;
use crate::net::{Bounds, limits};
use streams::Slot;

/// What a driver needs of the world beside a socket.
pub struct World {
    /// Resolves after so long.
    pub sleep: fn(Duration) -> LocalBoxFuture<'static, ()>,
    pub wall_clock: fn() -> SystemTime,
    /// Milliseconds of a clock that does not go back.
    pub monotonic_ms: fn() -> u64,
    /// Resolves once connections should end.
    pub shutdown: LocalBoxFuture<'static, ()>,
    /// Shared by connections that read one after the other.
    pub buffer: ReadBuffer,
}

/// Why a connection ended before its time.
#[derive(Debug, thiserror::Error)]
pub enum DriveError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("the client broke the protocol: {0}")]
    Fault(#[from] Fault),
    #[error("the client did not answer a ping in time")]
    Silent,
    #[error("the client takes nothing of what it is sent")]
    Stalled,
}

/// Serves a connection until the client closes it, it breaks, or shutdown.
///
/// `prefix` was read from `stream` before. `handler` is called for each request; its future is
/// dropped when the client resets the stream.
pub async fn serve<S, H, F>(
    stream: S,
    prefix: &[u8],
    world: World,
    bounds: Bounds,
    handler: H,
) -> Result<(), DriveError>
where
    S: AsyncRead + AsyncWrite + Unpin,
    H: Fn(Request<RequestBody>) -> F,
    F: Future<Output = Response<BoxedBody>>,
{
    let mut driver = Driver::new(stream, world, bounds, handler);
    driver.feed(prefix);
    let result = std::future::poll_fn(|context| driver.poll(context)).await;
    // TLS says that this is the end, if there is room for it; nobody waits to hear it.
    let _closed_or_not = driver.stream.close().now_or_never();
    if matches!(result, Err(DriveError::Fault(_))) {
        let Driver { mut stream, sleep, buffer, .. } = driver;
        linger(&mut stream, sleep(limits::LINGER), &buffer).await;
    }
    result
}

/// Throws away what the client still sends, until it has read why nobody listens: a connection that
/// is closed with something unread takes the last words along.
pub(in crate::net) async fn linger<S: AsyncRead + Unpin>(
    stream: &mut S,
    mut sleep: LocalBoxFuture<'static, ()>,
    buffer: &ReadBuffer,
) {
    let mut left = limits::LINGER_BYTES;
    std::future::poll_fn(|context| {
        let mut buffer = buffer.borrow_mut();
        loop {
            match Pin::new(&mut *stream).poll_read(context, &mut buffer) {
                Poll::Ready(Ok(length @ 1..)) if left > 0 => left = left.saturating_sub(length),
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => return sleep.poll_unpin(context),
            }
        }
    })
    .await;
}

/// The numbers of what has a waker.
const READ: u32 = 0;
const WRITE: u32 = 1;
const TIMER: u32 = 2;
const SHUTDOWN: u32 = 3;
const CHECK: u32 = 4;
/// ... and of the first stream slot.
const STREAMS: u32 = 5;

/// Rounds of reading, handling and writing before other tasks have their turn.
const ROUNDS: usize = 8;
/// What an idle connection keeps for its next output.
const IDLE_OUTPUT_BYTES: usize = 16 << 10;

/// What the timer is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Alarm {
    /// Has the client said anything meanwhile?
    Interval,
    /// Has it answered?
    Ping,
    /// The end.
    Grace,
}

struct Driver<S, H, F> {
    stream: S,
    handler: H,
    connection: Connection,
    slots: Vec<Slot<F>>,
    ready: Arc<Ready>,
    read_waker: Waker,
    write_waker: Waker,
    timer_waker: Waker,
    shutdown_waker: Waker,
    check_waker: Waker,
    /// Scratch: the numbers that were woken.
    woken: Vec<u32>,
    /// Slots whose handlers have not been polled yet.
    fresh: Vec<u32>,
    consumed: Rc<Consumed>,
    consumed_list: Vec<(StreamKey, u32)>,
    buffer: ReadBuffer,
    may_read: bool,
    may_write: bool,
    must_flush: bool,
    fault: Option<Fault>,
    sleep: fn(Duration) -> LocalBoxFuture<'static, ()>,
    timer: LocalBoxFuture<'static, ()>,
    alarm: Alarm,
    /// The client has sent something since the timer was set.
    heard: bool,
    bounds: Bounds,
    /// Runs while something is under way that must get on.
    check: Option<LocalBoxFuture<'static, ()>>,
    /// The client has taken something since the last check.
    taken: bool,
    /// Checks since it last did.
    stalled: u32,
    monotonic_ms: fn() -> u64,
    shutdown: LocalBoxFuture<'static, ()>,
    wall_clock: fn() -> SystemTime,
    date: DateCache,
}

impl<S, H, F> Driver<S, H, F>
where
    S: AsyncRead + AsyncWrite + Unpin,
    H: Fn(Request<RequestBody>) -> F,
    F: Future<Output = Response<BoxedBody>>,
{
    fn new(stream: S, world: World, bounds: Bounds, handler: H) -> Driver<S, H, F> {
        let ready = Arc::new(Ready::default());
        let [read_waker, write_waker, timer_waker, shutdown_waker, check_waker] =
            [READ, WRITE, TIMER, SHUTDOWN, CHECK].map(|number| ready::waker(&ready, number));
        // The first look registers their wakers.
        timer_waker.wake_by_ref();
        shutdown_waker.wake_by_ref();
        Driver {
            stream,
            handler,
            connection: Connection::new(bounds),
            slots: Vec::new(),
            consumed: Consumed::new(ready.clone()),
            consumed_list: Vec::new(),
            ready,
            read_waker,
            write_waker,
            timer_waker,
            shutdown_waker,
            check_waker,
            woken: Vec::new(),
            fresh: Vec::new(),
            buffer: world.buffer,
            may_read: true,
            may_write: true,
            must_flush: false,
            fault: None,
            timer: interval(world.sleep, bounds.keep_alive_interval),
            sleep: world.sleep,
            alarm: Alarm::Interval,
            heard: false,
            bounds,
            check: None,
            taken: false,
            stalled: 0,
            monotonic_ms: world.monotonic_ms,
            shutdown: world.shutdown,
            wall_clock: world.wall_clock,
            date: DateCache::default(),
        }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<(), DriveError>> {
        self.ready.start(context.waker());
        for _ in 0..ROUNDS {
            match self.round() {
                Ok(true) => {
                    return Poll::Ready(self.fault.map_or(Ok(()), |fault| Err(fault.into())));
                }
                Ok(false) => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
            let may_read = self.may_read && !self.connection.is_output_full();
            let may_write = self.may_write && !self.connection.output().is_empty();
            let may_go_on = may_read || may_write || self.connection.can_go_on();
            if !may_go_on && self.ready.stop() {
                return Poll::Pending;
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// Does what there is to do; whether that was all for ever.
    fn round(&mut self) -> Result<bool, DriveError> {
        if self.read()? || self.look_at_woken()? {
            return Ok(true);
        }
        let mut fresh = mem::take(&mut self.fresh);
        for slot in fresh.drain(..) {
            self.work(slot);
        }
        self.fresh = fresh;
        self.give_windows_back();
        self.connection.send_pending();
        while let Some(key) = self.connection.next_with_room() {
            self.work(key.slot);
        }
        self.write()?;
        self.connection.account();
        if self.check.is_none() && self.connection.needs_checks() {
            self.check = Some((self.sleep)(limits::CHECK_INTERVAL));
            self.check_waker.wake_by_ref();
        }
        Ok(self.connection.is_finished() && self.connection.output().is_empty() && !self.must_flush)
    }

    /// Reads once; `true` at the end of what the client sends.
    fn read(&mut self) -> Result<bool, DriveError> {
        if !self.may_read || self.connection.is_output_full() || self.fault.is_some() {
            return Ok(false);
        }
        let buffer = self.buffer.clone();
        let mut buffer = buffer.borrow_mut();
        let mut context = Context::from_waker(&self.read_waker);
        match Pin::new(&mut self.stream).poll_read(&mut context, &mut buffer) {
            Poll::Pending => self.may_read = false,
            Poll::Ready(read) => match read? {
                0 => return Ok(true),
                length => {
                    self.heard = true;
                    self.connection.set_time((self.monotonic_ms)());
                    self.feed(&buffer[..length]);
                }
            },
        }
        Ok(false)
    }

    fn feed(&mut self, mut input: &[u8]) {
        loop {
            match self.connection.receive(&mut input) {
                Ok(Some(event)) => self.event(event),
                Ok(None) => return,
                Err(fault) => return self.fail(fault),
            }
        }
    }

    fn fail(&mut self, fault: Fault) {
        self.fault = Some(fault);
        self.drop_all(BodyError::Closed);
    }

    fn look_at_woken(&mut self) -> Result<bool, DriveError> {
        let mut woken = mem::take(&mut self.woken);
        self.ready.take(&mut woken);
        let mut over = false;
        for &number in &woken {
            match number {
                READ => self.may_read = true,
                WRITE => self.may_write = true,
                TIMER => over |= self.look_at_timer()?,
                SHUTDOWN => self.look_at_shutdown(),
                CHECK => self.look_at_check()?,
                slot => self.work(slot - STREAMS),
            }
        }
        woken.clear();
        self.woken = woken;
        Ok(over)
    }

    fn look_at_timer(&mut self) -> Result<bool, DriveError> {
        let mut context = Context::from_waker(&self.timer_waker);
        while self.timer.as_mut().poll(&mut context).is_ready() {
            let heard = mem::take(&mut self.heard);
            let pause = match self.alarm {
                Alarm::Grace => return Ok(true),
                Alarm::Ping if !heard => return Err(DriveError::Silent),
                Alarm::Interval if !heard => {
                    self.connection.ping();
                    self.alarm = Alarm::Ping;
                    self.bounds.keep_alive_timeout
                }
                Alarm::Interval | Alarm::Ping => {
                    self.alarm = Alarm::Interval;
                    self.bounds.keep_alive_interval
                }
            };
            self.timer = interval(self.sleep, pause);
        }
        Ok(false)
    }

    /// Does what is under way get on?
    fn look_at_check(&mut self) -> Result<(), DriveError> {
        let mut context = Context::from_waker(&self.check_waker);
        let Some(check) = &mut self.check else { return Ok(()) };
        if check.as_mut().poll(&mut context).is_pending() {
            return Ok(());
        }
        self.check = None;
        let blocked = !self.may_write && !self.connection.output().is_empty();
        self.stalled = if mem::take(&mut self.taken) || !blocked { 0 } else { self.stalled + 1 };
        if self.stalled > limits::STALLED_CHECKS {
            return Err(DriveError::Stalled);
        }
        if self.fault.is_some() {
            return Ok(());
        }
        match self.connection.check() {
            Ok(dropped) => {
                for key in dropped {
                    self.forget(key, BodyError::Closed);
                }
            }
            Err(fault) => self.fail(fault),
        }
        Ok(())
    }

    fn look_at_shutdown(&mut self) {
        let mut context = Context::from_waker(&self.shutdown_waker);
        if self.alarm != Alarm::Grace && self.shutdown.as_mut().poll(&mut context).is_ready() {
            self.connection.leave();
            self.alarm = Alarm::Grace;
            self.timer = (self.sleep)(limits::SHUTDOWN_GRACE);
            self.timer_waker.wake_by_ref();
        }
    }

    fn give_windows_back(&mut self) {
        let mut list = mem::take(&mut self.consumed_list);
        self.consumed.take(&mut list);
        for (stream, bytes) in list.drain(..) {
            self.connection.consume(stream, bytes);
        }
        self.consumed_list = list;
    }

    fn write(&mut self) -> Result<(), DriveError> {
        let mut context = Context::from_waker(&self.write_waker);
        while self.may_write && !self.connection.output().is_empty() {
            let output = self.connection.output();
            match Pin::new(&mut self.stream).poll_write(&mut context, output) {
                Poll::Pending => self.may_write = false,
                Poll::Ready(written) => match written? {
                    0 => return Err(io::Error::from(io::ErrorKind::WriteZero).into()),
                    length => {
                        output.advance(length);
                        self.must_flush = true;
                        self.taken = true;
                    }
                },
            }
        }
        if self.must_flush && self.connection.output().is_empty() {
            match Pin::new(&mut self.stream).poll_flush(&mut context) {
                Poll::Pending => self.may_write = false,
                Poll::Ready(flushed) => {
                    flushed?;
                    self.must_flush = false;
                }
            }
            self.connection.shrink_output(IDLE_OUTPUT_BYTES);
        }
        Ok(())
    }
}

/// Resolves after so long; never when that is nothing.
fn interval(
    sleep: fn(Duration) -> LocalBoxFuture<'static, ()>,
    duration: Duration,
) -> LocalBoxFuture<'static, ()> {
    if duration.is_zero() { Box::pin(std::future::pending()) } else { sleep(duration) }
}

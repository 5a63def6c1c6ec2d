//! How many connections a listener has on all its cores, and words for who finds no room.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use bytes::BytesMut;
use futures_util::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use mainstay_engine::runtime::{spawn_local, timer};

use super::held::{self, Pressure};
use super::http::{self, Protocol};
use super::http2::{driver, too_many_connections};
use super::limits;
use super::rt::ReadBuffer;
use crate::cli::LogLevel;
use crate::log;

/// The connections of one listener, counted over all its cores.
#[derive(Debug)]
pub struct Gate {
    most: usize,
    open: AtomicUsize,
    refused: AtomicU64,
    /// When the log heard of it last.
    said_ms: AtomicU64,
}

/// A connection that was let in. Counts down when dropped.
pub(super) struct Admitted(Arc<Gate>);

impl Drop for Admitted {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Gate {
    /// One that lets `most` connections in at a time.
    pub fn new(most: usize) -> Arc<Gate> {
        let never = u64::MAX;
        Arc::new(Gate {
            most,
            open: AtomicUsize::new(0),
            refused: AtomicU64::new(0),
            said_ms: AtomicU64::new(never),
        })
    }

    /// `None` when there is no room for one more.
    pub(super) fn enter(self: &Arc<Gate>) -> Option<Admitted> {
        let open = self.open.fetch_add(1, Ordering::Relaxed);
        let admitted = Admitted(self.clone());
        (open < self.most && held::pressure() != Pressure::Over).then_some(admitted)
    }

    /// Tells the log, now and then.
    pub(super) fn say(&self, now_ms: u64) {
        let refused = self.refused.fetch_add(1, Ordering::Relaxed) + 1;
        let said_ms = self.said_ms.load(Ordering::Relaxed);
        let is_due =
            said_ms == u64::MAX || now_ms.saturating_sub(said_ms) >= limits::REFUSAL_LOG_MS;
        let swap = |_| {
            self.said_ms.compare_exchange(said_ms, now_ms, Ordering::Relaxed, Ordering::Relaxed)
        };
        if is_due && swap(()).is_ok() {
            let (open, most) = (self.open.load(Ordering::Relaxed), self.most);
            log::write(
                LogLevel::Warn,
                format_args!(
                    "no room for more clients: {open} connections are open (--max-connections is \
                     {most}), or all that clients may make this process hold is in use \
                     (--max-held-bytes); {refused} refused so far",
                ),
            );
        }
    }
}

/// Tells a client in its protocol that there is no room, in the background. Nothing is said on a
/// connection that wants TLS: a handshake is what costs most.
pub(super) fn refuse<S>(stream: S, is_tls: bool, busy: &Rc<Cell<usize>>, buffer: &ReadBuffer)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    if is_tls || busy.get() >= limits::REFUSALS_PER_CORE {
        return;
    }
    busy.set(busy.get() + 1);
    let (busy, buffer) = (busy.clone(), buffer.clone());
    spawn_local(async move {
        let told = tell(stream, &buffer);
        let _gone_or_slow = timer::timeout(limits::REFUSAL_TIMEOUT, told).await;
        busy.set(busy.get() - 1);
    });
}

async fn tell<S>(mut stream: S, buffer: &ReadBuffer) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (protocol, _) = http::detect(&mut stream).await?;
    let mut words = BytesMut::new();
    match protocol {
        Protocol::Http1 => words.extend_from_slice(
            b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: text/plain\r\n\
              content-length: 21\r\nretry-after: 1\r\nconnection: close\r\n\r\n\
              too many connections\n",
        ),
        Protocol::Http2 => too_many_connections(&mut words),
    }
    stream.write_all(&words).await?;
    stream.flush().await?;
    stream.close().await?;
    driver::linger(&mut stream, Box::pin(timer::sleep(limits::LINGER)), buffer).await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_are_let_in_at_a_time() {
        let gate = Gate::new(2);
        let first = gate.enter().expect("room");
        let _second = gate.enter().expect("room");
        assert!(gate.enter().is_none());
        assert!(gate.enter().is_none(), "who is refused takes no room");
        drop(first);
        assert!(gate.enter().is_some());
    }

    #[test]
    fn the_log_hears_of_it_now_and_then() {
        let gate = Gate::new(0);
        for (now_ms, said_ms) in [(5, 5), (6, 5), (5 + limits::REFUSAL_LOG_MS, 10_005)] {
            gate.say(now_ms);
            assert_eq!(gate.said_ms.load(Ordering::Relaxed), said_ms);
        }
        assert_eq!(gate.refused.load(Ordering::Relaxed), 3);
    }
}

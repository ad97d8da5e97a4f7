//! How long a server may leave us without an answer: a stopped one keeps its connections open, and says nothing.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use postgres::Socket;
use postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep_until};

/// Between two looks whether there is a limit by now.
const TICK: Duration = Duration::from_millis(250);

/// A limit for all connections that were opened with it; none until one is set. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Patience(Arc<Mutex<Option<Limit>>>);

#[derive(Debug, Clone, Copy)]
struct Limit {
    /// Until then every answer is waited for.
    from: Instant,
    /// How long an answer may take that is not there by then.
    silence: Duration,
}

impl Patience {
    /// From the instant `from` on, an answer that takes longer than `silence` is given up, and its connection with it.
    pub fn end(&self, from: Instant, silence: Duration) {
        self.set(Some(Limit { from, silence }));
    }

    /// Answers take the time that they take.
    pub fn restore(&self) {
        self.set(None);
    }

    fn set(&self, limit: Option<Limit>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = limit;
    }

    fn get(&self) -> Option<Limit> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What makes a connection that has it: encrypted by `T`, or as it is.
#[derive(Clone)]
pub struct Impatient<T> {
    pub patience: Patience,
    pub tls: T,
}

/// No encryption. As the crate hands out its socket to what encrypts alone, a connection that this is for has to be set up as
/// if TLS began without a question to the server, which then hears nothing of it.
#[derive(Clone, Copy)]
pub struct Plain;

impl<T: MakeTlsConnect<Socket>> MakeTlsConnect<Socket> for Impatient<T>
where
    <T::TlsConnect as TlsConnect<Socket>>::Future: Send + 'static,
{
    type Stream = Watched<T::Stream>;
    type TlsConnect = Impatient<T::TlsConnect>;
    type Error = T::Error;

    fn make_tls_connect(&mut self, domain: &str) -> Result<Self::TlsConnect, T::Error> {
        Ok(Impatient { patience: self.patience.clone(), tls: self.tls.make_tls_connect(domain)? })
    }
}

impl<T: TlsConnect<Socket>> TlsConnect<Socket> for Impatient<T>
where
    T::Future: Send + 'static,
{
    type Stream = Watched<T::Stream>;
    type Error = T::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Watched<T::Stream>, T::Error>> + Send>>;

    fn connect(self, socket: Socket) -> Self::Future {
        let opening = self.tls.connect(socket);
        Box::pin(async move { Ok(Watched::new(opening.await?, self.patience)) })
    }
}

impl MakeTlsConnect<Socket> for Plain {
    type Stream = PlainStream;
    type TlsConnect = Plain;
    type Error = Infallible;

    fn make_tls_connect(&mut self, _domain: &str) -> Result<Plain, Infallible> {
        Ok(Plain)
    }
}

impl TlsConnect<Socket> for Plain {
    type Stream = PlainStream;
    type Error = Infallible;
    type Future = Ready<Result<PlainStream, Infallible>>;

    fn connect(self, socket: Socket) -> Self::Future {
        ready(Ok(PlainStream(socket)))
    }
}

/// A socket as it is.
pub struct PlainStream(Socket);

impl TlsStream for PlainStream {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl AsyncRead for PlainStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for PlainStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// A stream that fails when an answer takes longer than the limit allows.
pub struct Watched<S> {
    stream: S,
    patience: Patience,
    /// Since when an answer has been waited for, and when that was last looked at; none when something has just passed.
    waiting: Option<(Instant, Instant)>,
    /// Wakes whoever waits for an answer.
    alarm: Option<Pin<Box<Sleep>>>,
}

impl<S> Watched<S> {
    fn new(stream: S, patience: Patience) -> Watched<S> {
        Watched { stream, patience, waiting: None, alarm: None }
    }

    /// Nothing has come: fails when it is late, else wakes the waiter again in a while.
    fn wait(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let now = Instant::now();
            // Whoever waits looks at every tick. Where nobody has looked, nothing was asked.
            let since = match self.waiting {
                Some((since, looked)) if now - looked < 2 * TICK => since,
                _ => now,
            };
            self.waiting = Some((since, now));
            let end = self.patience.get().map(|limit| limit.from.max(since + limit.silence));
            if end.is_some_and(|end| now >= end) {
                let message = format!("no answer for {}", crate::error::human(now - since));
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, message)));
            }
            let next = end.map_or(now + TICK, |end| end.min(now + TICK));
            let alarm = self.alarm.get_or_insert_with(|| Box::pin(sleep_until(next.into())));
            if alarm.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.alarm = None;
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.stream).poll_read(cx, buf) {
            Poll::Pending => self.wait(cx),
            ready @ Poll::Ready(_) => {
                self.waiting = None;
                self.alarm = None;
                ready
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        if written.is_ready() {
            self.waiting = None;
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl<S: TlsStream + Unpin> TlsStream for Watched<S> {
    fn channel_binding(&self) -> ChannelBinding {
        self.stream.channel_binding()
    }
}

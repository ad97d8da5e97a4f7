//! Bytes to and from a server: non-blocking sockets, plain or under TLS, with a deadline on every wait.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use native_tls::{HandshakeError, TlsConnector, TlsStream};
use rustix::event::{PollFd, PollFlags, Timespec};

/// How much is asked of the kernel at once, and the size of our writes in bulk.
pub(super) const CHUNK: usize = 64 * 1024;
/// A read below this means that the sender is not ahead of us.
const SHORT_READ: usize = 16 * 1024;
/// A walsender makes one `send` per change: waiting this long after a short read lets several gather.
const COALESCE: Duration = Duration::from_micros(200);

/// A connected socket.
pub(super) enum Socket {
    /// TCP.
    Tcp(TcpStream),
    /// A Unix domain socket.
    Unix(UnixStream),
}

impl Socket {
    fn set_nonblocking(&self) -> io::Result<()> {
        match self {
            Socket::Tcp(stream) => stream.set_nonblocking(true),
            Socket::Unix(stream) => stream.set_nonblocking(true),
        }
    }

    fn shutdown(&self) {
        // Nothing is left to do about a socket that is broken already.
        let _ = match self {
            Socket::Tcp(stream) => stream.shutdown(std::net::Shutdown::Both),
            Socket::Unix(stream) => stream.shutdown(std::net::Shutdown::Both),
        };
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Socket::Tcp(stream) => stream.as_fd(),
            Socket::Unix(stream) => stream.as_fd(),
        }
    }
}

/// A socket with a read buffer below TLS, so that one read(2) serves many TLS records.
#[derive(Debug)]
struct Buffered {
    socket: Socket,
    buffer: BytesMut,
    /// Whether a read(2) may bring something: after poll(2) said so, or after a read that was not short.
    readable: bool,
    last_was_short: bool,
    coalesce: bool,
}

impl std::fmt::Debug for Socket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Socket::Tcp(_) => "Tcp",
            Socket::Unix(_) => "Unix",
        })
    }
}

impl Buffered {
    fn receive(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if !self.readable {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let result = match &mut self.socket {
            Socket::Tcp(stream) => stream.read(into),
            Socket::Unix(stream) => stream.read(into),
        };
        match &result {
            Ok(count) => {
                self.last_was_short = *count < SHORT_READ.min(into.len());
                self.readable = !self.last_was_short;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.readable = false,
            Err(_) => {}
        }
        result
    }

    /// Waits until something can be read or `wait` is over.
    fn wait_readable(&mut self, wait: Duration) -> io::Result<()> {
        if poll(self.socket.as_fd(), PollFlags::IN, wait)? {
            if self.coalesce && self.last_was_short {
                std::thread::sleep(COALESCE);
            }
            self.readable = true;
        }
        Ok(())
    }
}

impl Read for Buffered {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.buffer.is_empty() {
            let mut buffer = std::mem::take(&mut self.buffer);
            buffer.resize(CHUNK, 0);
            let result = self.receive(&mut buffer);
            buffer.truncate(*result.as_ref().unwrap_or(&0));
            self.buffer = buffer;
            if result? == 0 {
                return Ok(0);
            }
        }
        let count = into.len().min(self.buffer.len());
        self.buffer.copy_to_slice(&mut into[..count]);
        if self.buffer.is_empty() {
            self.buffer = BytesMut::with_capacity(CHUNK);
        }
        Ok(count)
    }
}

impl Write for Buffered {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        match &mut self.socket {
            Socket::Tcp(stream) => stream.write(from),
            Socket::Unix(stream) => stream.write(from),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

enum Layer {
    Plain(Buffered),
    Tls(Box<TlsStream<Buffered>>),
    /// Between the two, and after a failed handshake.
    None,
}

/// A connection's byte stream.
pub(super) struct Transport {
    layer: Layer,
}

impl Transport {
    pub(super) fn new(socket: Socket) -> io::Result<Transport> {
        socket.set_nonblocking()?;
        let buffered = Buffered {
            socket,
            buffer: BytesMut::new(),
            readable: false,
            last_was_short: false,
            coalesce: false,
        };
        Ok(Transport { layer: Layer::Plain(buffered) })
    }

    /// Turns the stream into a TLS one. Bytes that came before the handshake are refused: nobody vouches for them.
    pub(super) fn start_tls(
        &mut self,
        connector: &TlsConnector,
        name: &str,
        deadline: Instant,
    ) -> io::Result<()> {
        let Layer::Plain(plain) = std::mem::replace(&mut self.layer, Layer::None) else {
            return Err(io::Error::other("TLS is already on"));
        };
        if !plain.buffer.is_empty() {
            return Err(io::Error::other("the server sent data before the TLS handshake"));
        }
        let mut result = connector.connect(name, plain);
        loop {
            match result {
                Ok(stream) => {
                    self.layer = Layer::Tls(Box::new(stream));
                    return Ok(());
                }
                Err(HandshakeError::Failure(error)) => return Err(io::Error::other(error)),
                Err(HandshakeError::WouldBlock(mut pending)) => {
                    pending.get_mut().wait_readable(remaining(deadline)?)?;
                    result = pending.handshake();
                }
            }
        }
    }

    #[cfg(test)]
    pub(super) fn is_tls(&self) -> bool {
        matches!(self.layer, Layer::Tls(_))
    }

    /// The certificate's hash that SCRAM binds to; `None` without TLS.
    pub(super) fn tls_server_end_point(&self) -> Option<Vec<u8>> {
        match &self.layer {
            Layer::Tls(stream) => stream.tls_server_end_point().ok().flatten(),
            Layer::Plain(_) | Layer::None => None,
        }
    }

    /// Whether to let small sends of a walsender gather before they are read.
    pub(super) fn set_coalescing(&mut self, on: bool) {
        if let Ok(buffered) = self.buffered() {
            buffered.coalesce = on;
        }
    }

    /// Appends what is there, up to about one chunk; waits up to `wait` for the first byte.
    /// 0 when nothing came in time; the end of the stream is an error.
    pub(super) fn read_into(&mut self, inbox: &mut BytesMut, wait: Duration) -> io::Result<usize> {
        let deadline = Instant::now() + wait;
        let start = inbox.len();
        loop {
            match self.read_available(inbox) {
                Ok(()) if inbox.len() > start => return Ok(inbox.len() - start),
                Ok(()) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if inbox.len() > start {
                        return Ok(inbox.len() - start);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // What came before the failure is still to be read: it may say why.
                Err(_) if inbox.len() > start => return Ok(inbox.len() - start),
                Err(error) => return Err(error),
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let buffered = self.buffered()?;
            buffered.wait_readable(left)?;
            if left.is_zero() && !buffered.readable {
                return Ok(0);
            }
        }
    }

    /// One read of the plain socket, or all records that are already here under TLS.
    fn read_available(&mut self, inbox: &mut BytesMut) -> io::Result<()> {
        if inbox.capacity() - inbox.len() < SHORT_READ {
            inbox.reserve(CHUNK);
        }
        let filled = inbox.len();
        inbox.resize(inbox.capacity().min(filled + CHUNK), 0);
        let mut end = filled;
        let result = match &mut self.layer {
            Layer::Plain(plain) => plain.receive(&mut inbox[end..]).map(|count| end += count),
            Layer::Tls(stream) => loop {
                match stream.read(&mut inbox[end..]) {
                    Ok(0) => break Ok(()),
                    Ok(count) => end += count,
                    Err(error) => break Err(error),
                }
                if end == inbox.len() {
                    break Ok(());
                }
            },
            Layer::None => Err(io::ErrorKind::NotConnected.into()),
        };
        inbox.truncate(end);
        result
    }

    /// Writes some of `from`; 0 when the socket took nothing for `wait`, or when there is something to read first:
    /// a server that cannot send stops to receive.
    pub(super) fn write_some(&mut self, from: &[u8], wait: Duration) -> io::Result<usize> {
        let mut waited = false;
        loop {
            let result = match &mut self.layer {
                Layer::Plain(plain) => plain.write(from),
                Layer::Tls(stream) => stream.write(from),
                Layer::None => Err(io::ErrorKind::NotConnected.into()),
            };
            match result {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => return Ok(count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if waited {
                        return Ok(0);
                    }
                    poll(self.buffered()?.socket.as_fd(), PollFlags::OUT | PollFlags::IN, wait)?;
                    waited = true;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Ends the connection at once, without a word.
    pub(super) fn close(&mut self) {
        if let Ok(buffered) = self.buffered() {
            buffered.socket.shutdown();
        }
        self.layer = Layer::None;
    }

    fn buffered(&mut self) -> io::Result<&mut Buffered> {
        match &mut self.layer {
            Layer::Plain(plain) => Ok(plain),
            Layer::Tls(stream) => Ok(stream.get_mut()),
            Layer::None => Err(io::ErrorKind::NotConnected.into()),
        }
    }
}

/// What is left until `deadline`; an error of kind `TimedOut` when nothing is.
pub(super) fn remaining(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

/// Whether `fd` became ready (or broken, which a read or write will tell) within `wait`.
fn poll(fd: BorrowedFd<'_>, flags: PollFlags, wait: Duration) -> io::Result<bool> {
    let wait = Timespec { tv_sec: wait.as_secs() as i64, tv_nsec: i64::from(wait.subsec_nanos()) };
    match rustix::event::poll(&mut [PollFd::from_borrowed_fd(fd, flags)], Some(&wait)) {
        Ok(count) => Ok(count > 0),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

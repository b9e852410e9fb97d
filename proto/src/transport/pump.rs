//! The forwarding loop of one connection: one task, two decoders, two buffers, one timer.
//!
//! Writes are tried before reads, so a message leaves in the same wake-up in which its last byte came.

use std::io;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::bucket::Bucket;
use super::forward::{Admitted, ForwardError, ForwardLimits, Shared};
use super::rules::{Role, Rules};
use super::zmtp::{Command, Decoder, Item, encode_pong};

/// Above this many bytes waiting for our own socket the peer is not read any further: our side is busy, the peer waits.
const INNER_BACKLOG: usize = 256 * 1024;
/// How long our own socket may take to hear that a peer has left.
const LEAVE: Duration = Duration::from_secs(1);
/// A buffer that grew beyond this is given back once it is empty.
const KEEP_CAPACITY: usize = 64 * 1024;

/// The state of a connection whose handshakes are done.
pub(super) struct Pump<'a, S> {
    outer: TcpStream,
    inner: S,
    state: State<'a>,
}

struct State<'a> {
    limits: &'a ForwardLimits,
    shared: Shared,
    rules: Rules,
    role: Role,
    bucket: Bucket,
    from_outer: Decoder,
    from_inner: Decoder,
    to_outer: BytesMut,
    to_inner: BytesMut,
    /// Stands before each message to our own socket.
    name: Bytes,
    throttled_until: Option<Instant>,
    partial_since: Option<Instant>,
    waiting_since: Option<Instant>,
    active_at: Instant,
    outer_closed: bool,
    inner_closed: bool,
}

enum Event {
    FromOuter(io::Result<usize>),
    FromInner(io::Result<usize>),
    ToOuter(io::Result<usize>),
    ToInner(io::Result<usize>),
    Timer,
}

impl<'a, S: AsyncRead + AsyncWrite + Unpin> Pump<'a, S> {
    pub(super) fn new(
        admitted: Admitted,
        inner: S,
        from_inner: Decoder,
        name: Bytes,
        limits: &'a ForwardLimits,
        shared: Shared,
    ) -> Self {
        let now = Instant::now();
        Self {
            outer: admitted.stream,
            inner,
            state: State {
                limits,
                shared,
                rules: Rules::new(admitted.role, limits.rules),
                role: admitted.role,
                bucket: Bucket::new(limits.rate, now),
                from_outer: admitted.decoder,
                from_inner,
                to_outer: BytesMut::new(),
                to_inner: BytesMut::new(),
                name,
                throttled_until: None,
                partial_since: None,
                waiting_since: None,
                active_at: now,
                outer_closed: false,
                inner_closed: false,
            },
        }
    }

    pub(super) async fn run(mut self) -> Result<(), ForwardError> {
        let end = self.carry().await;
        let left = self.state.rules.leave();
        if !left.is_empty() {
            // However it ended: the message that is half written, then that nobody listens here any more.
            left.iter().for_each(|word| self.state.give_inner(word));
            // Our own socket reads at once, or is gone.
            let _ = timeout(LEAVE, self.inner.write_all(&self.state.to_inner)).await;
        }
        end
    }

    async fn carry(&mut self) -> Result<(), ForwardError> {
        let (mut outer_read, mut outer_write) = self.outer.split();
        let (mut inner_read, mut inner_write) = tokio::io::split(&mut self.inner);
        let state = &mut self.state;
        loop {
            let now = Instant::now();
            state.take_from_outer(now)?;
            state.take_from_inner(now)?;
            if state.is_done() {
                return Ok(());
            }
            let wake = state.check_time(now)?;
            let read_outer = state.reads_outer();
            let read_inner = !state.inner_closed;
            let (write_outer, write_inner) = (!state.to_outer.is_empty(), !state.to_inner.is_empty());
            let event = tokio::select! {
                biased;
                n = outer_write.write(&state.to_outer), if write_outer => Event::ToOuter(n),
                n = inner_write.write(&state.to_inner), if write_inner => Event::ToInner(n),
                n = inner_read.read_buf(state.from_inner.space()), if read_inner => Event::FromInner(n),
                n = outer_read.read_buf(state.from_outer.space()), if read_outer => Event::FromOuter(n),
                () = sleep_until(wake), if wake.is_some() => Event::Timer,
            };
            state.apply(event)?;
        }
    }
}

impl State<'_> {
    fn give_inner(&mut self, message: &[u8]) {
        self.to_inner.extend_from_slice(&self.name);
        self.to_inner.extend_from_slice(message);
    }

    fn apply(&mut self, event: Event) -> Result<(), ForwardError> {
        match event {
            Event::FromOuter(read) => {
                if read.map_err(ForwardError::Outer)? == 0 {
                    if self.from_outer.buffered() != 0 {
                        return Err(ForwardError::Truncated);
                    }
                    self.outer_closed = true;
                }
                self.charge()?;
            }
            Event::FromInner(read) => {
                // Our own socket dropped this peer: what it said before still goes out.
                self.inner_closed = read.map_err(ForwardError::Inner)? == 0;
                self.charge()?;
            }
            Event::ToOuter(written) => {
                advance(&mut self.to_outer, written.map_err(ForwardError::Outer)?);
                self.waiting_since = None;
                self.charge()?;
            }
            Event::ToInner(written) => {
                advance(&mut self.to_inner, written.map_err(ForwardError::Inner)?);
                self.charge()?;
            }
            Event::Timer => {}
        }
        Ok(())
    }

    /// What our own socket said still goes out to the peer. What the peer said before it left matters only where we dialled:
    /// there it is the answer; at the gate nobody is left to be answered.
    fn is_done(&self) -> bool {
        let dialled = match self.role {
            Role::Answerer | Role::Publisher => true,
            Role::Requester | Role::Subscriber => false,
        };
        (self.inner_closed && self.to_outer.is_empty()) || (self.outer_closed && (!dialled || self.to_inner.is_empty()))
    }

    fn reads_outer(&self) -> bool {
        self.throttled_until.is_none()
            && self.to_inner.len() < INNER_BACKLOG
            && !self.inner_closed
            && !self.outer_closed
    }

    /// Whole messages of the peer go to our socket's buffer, as far as the rate allows.
    fn take_from_outer(&mut self, now: Instant) -> Result<(), ForwardError> {
        if self.throttled_until.is_some_and(|until| now < until) {
            return Ok(());
        }
        self.throttled_until = None;
        while self.reads_outer() {
            if self.from_outer.buffered() == 0 {
                self.partial_since = None;
                return Ok(());
            }
            let Some(item) = self.from_outer.next()? else {
                self.partial_since.get_or_insert(now);
                return Ok(());
            };
            self.partial_since = None;
            self.active_at = now;
            self.count(now);
            let forward = match item {
                Item::Message(message) => self.rules.from_outer(message)?,
                Item::Command(body) => self.command(&body)?,
            };
            if let Some(bytes) = forward {
                self.give_inner(&bytes);
            }
        }
        // Held up by ourselves: the peer's time for the rest of its message does not run.
        self.partial_since = None;
        Ok(())
    }

    /// Counts a message against the connection's and the address's rate.
    fn count(&mut self, now: Instant) {
        let address = self.shared.address_rate.as_ref();
        let waits = [self.bucket.spend(now).err(), address.and_then(|bucket| bucket.spend(now).err())];
        self.throttled_until = waits.into_iter().flatten().max().map(|wait| now + wait);
    }

    fn command(&mut self, body: &Bytes) -> Result<Option<Bytes>, ForwardError> {
        let command = Command::parse(body)?;
        if let Command::Ping { context } = &command {
            self.to_outer.extend_from_slice(&encode_pong(context));
            return Ok(None);
        }
        Ok(self.rules.from_outer_command(&command)?)
    }

    /// Whole messages of our socket go to the peer's buffer.
    fn take_from_inner(&mut self, now: Instant) -> Result<(), ForwardError> {
        while let Some(item) = self.from_inner.next().map_err(|v| ForwardError::Inner(io::Error::other(v)))? {
            if let Item::Message(message) = item {
                self.rules.from_inner()?;
                self.active_at = now;
                self.to_outer.extend_from_slice(message.raw());
            }
        }
        if self.to_outer.len() > self.limits.max_backlog {
            return Err(ForwardError::Backlog(self.to_outer.len()));
        }
        if !self.to_outer.is_empty() {
            self.waiting_since.get_or_insert(now);
        }
        Ok(())
    }

    fn charge(&mut self) -> Result<(), ForwardError> {
        let held = self.from_outer.buffered() + self.from_inner.buffered() + self.to_inner.len() + self.to_outer.len();
        let share = self.shared.memory.as_mut();
        if share.is_none_or(|share| share.set(held)) {
            return Ok(());
        }
        Err(ForwardError::Budget)
    }

    /// Ends the connection when a limit has passed; otherwise the next moment to look again.
    fn check_time(&self, now: Instant) -> Result<Option<Instant>, ForwardError> {
        let limits = self.limits;
        let idle = limits.idle.filter(|_| self.rules.is_idle());
        let deadlines = [
            (self.partial_since, Some(limits.message)),
            (self.waiting_since, Some(limits.stall)),
            (Some(self.active_at), idle),
        ];
        let mut wake = self.throttled_until;
        for (index, (since, limit)) in deadlines.into_iter().enumerate() {
            let (Some(since), Some(limit)) = (since, limit) else {
                continue;
            };
            let at = since + limit;
            if at <= now {
                return Err(match index {
                    0 => ForwardError::MessageTimeout(limit),
                    1 => ForwardError::Stalled(limit),
                    _ => ForwardError::Idle(limit),
                });
            }
            wake = Some(wake.map_or(at, |w| w.min(at)));
        }
        Ok(wake)
    }
}

fn advance(buf: &mut BytesMut, written: usize) {
    buf.advance(written);
    if buf.is_empty() && buf.capacity() > KEEP_CAPACITY {
        *buf = BytesMut::new();
    }
}

async fn sleep_until(wake: Option<Instant>) {
    if let Some(at) = wake {
        tokio::time::sleep_until(at.into()).await;
    }
}

//! Whoever lies to those who dial: a false server, and a man in the middle of a real conversation.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use maglica_tests::wait::{SOON, wait_until};

use crate::raw::{hello, message};

/// What a false server does with whoever connects.
#[derive(Debug, Clone)]
pub(crate) enum Lie {
    /// Takes the connection and says nothing.
    Silence,
    /// These bytes at once.
    Bytes(Vec<u8>),
    /// Greets well, then these bytes, then nothing.
    Greets(Vec<u8>),
    /// Greets well, a byte at a time.
    Drips,
    /// Greets well, and answers each question with this.
    Answers(Vec<Vec<u8>>),
    /// Greets well, and hangs up at the first question.
    HangsUp,
    /// Greets well, then sends this again and again.
    Floods(Vec<u8>),
}

/// What has come when more than a greeting and a READY have: a question.
const HELLO: usize = 110;

/// A listener that lies until it is dropped.
pub(crate) struct FalseServer {
    stop: Arc<AtomicBool>,
    met: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

impl FalseServer {
    pub(crate) fn start(at: SocketAddr, socket: &'static str, lie: Lie) -> Self {
        let listener =
            wait_until("the address is free", SOON, || TcpListener::bind(at).map_err(|error| error.to_string()));
        listener.set_nonblocking(true).unwrap();
        let (stop, met) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (stopping, meeting) = (stop.clone(), met.clone());
        let thread = thread::spawn(move || {
            let mut peers = Vec::new();
            while !stopping.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok((stream, _)) => {
                        meeting.fetch_add(1, Ordering::Relaxed);
                        let (lie, stop) = (lie.clone(), stopping.clone());
                        stream.set_nonblocking(false).unwrap();
                        peers.push(thread::spawn(move || lie.tell(stream, socket, &stop)));
                    }
                    Err(_) => thread::sleep(Duration::from_millis(3)),
                }
            }
            for peer in peers {
                peer.join().unwrap();
            }
        });
        Self { stop, met, thread: Some(thread) }
    }

    pub(crate) fn met(&self) -> usize {
        self.met.load(Ordering::Relaxed)
    }
}

impl Drop for FalseServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Lie {
    fn tell(&self, mut stream: TcpStream, socket: &str, stop: &AtomicBool) {
        stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        stream.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
        let greeting = hello(socket, None);
        let goes_on = || !stop.load(Ordering::Relaxed);
        let said = match self {
            Self::Silence => true,
            Self::Bytes(bytes) => stream.write_all(bytes).is_ok(),
            Self::Greets(bytes) => stream.write_all(&[&greeting[..], bytes].concat()).is_ok(),
            Self::Drips => greeting.iter().all(|byte| {
                thread::sleep(Duration::from_millis(100));
                goes_on() && stream.write_all(&[*byte]).is_ok()
            }),
            Self::Answers(_) | Self::HangsUp | Self::Floods(_) => stream.write_all(&greeting).is_ok(),
        };
        // Its own greeting is not a question.
        let (mut heard, mut answered) = (0, 0);
        let mut buffer = vec![0; 64 * 1024];
        while said && goes_on() {
            if let Self::Floods(bytes) = self {
                if stream.write_all(bytes).is_err() {
                    return;
                }
                continue;
            }
            match stream.read(&mut buffer) {
                Ok(0) => return,
                Ok(count) => {
                    heard += count;
                    let asked = heard > HELLO;
                    if let Self::Answers(answers) = self
                        && asked
                        && let Some(answer) = answers.get(answered)
                    {
                        answered += 1;
                        if stream.write_all(&message(&[b"", answer])).is_err() {
                            return;
                        }
                    }
                    if asked && matches!(self, Self::HangsUp) {
                        return;
                    }
                }
                Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {
                }
                Err(_) => return,
            }
        }
    }
}

/// A man in the middle, who changes what passes.
pub(crate) struct Middle {
    answers: Arc<Mutex<Vec<u8>>>,
}

/// From whom bytes come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum From {
    Asker,
    Server,
}

impl Middle {
    pub(crate) fn start(
        at: SocketAddr,
        to: SocketAddr,
        change: impl Fn(From, &[u8]) -> Vec<u8> + Send + Sync + 'static,
    ) -> Self {
        let listener =
            wait_until("the address is free", SOON, || TcpListener::bind(at).map_err(|error| error.to_string()));
        let (answers, change) = (Arc::new(Mutex::new(Vec::new())), Arc::new(change));
        let record = answers.clone();
        thread::spawn(move || {
            for near in listener.incoming() {
                let (Ok(near), Ok(far)) = (near, TcpStream::connect(to)) else { continue };
                for (from, mut read, mut write) in
                    [(From::Asker, near.try_clone().unwrap(), far.try_clone().unwrap()), (From::Server, far, near)]
                {
                    let (record, change) = (record.clone(), change.clone());
                    thread::spawn(move || {
                        let mut buffer = vec![0; 64 * 1024];
                        while let Ok(count @ 1..) = read.read(&mut buffer) {
                            if from == From::Server {
                                record.lock().unwrap().extend_from_slice(&buffer[..count]);
                            }
                            if write.write_all(&change(from, &buffer[..count])).is_err() {
                                break;
                            }
                        }
                        let _ = (read.shutdown(Shutdown::Both), write.shutdown(Shutdown::Both));
                    });
                }
            }
        });
        Self { answers }
    }

    pub(crate) fn answers(&self) -> Vec<u8> {
        self.answers.lock().unwrap().clone()
    }
}
